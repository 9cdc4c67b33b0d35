# The second extension, _cuda: CUDA kernels, without torch and cuDNN, cudart linked in. And
# _cuda_emulated, for tests: the same sources, compiled for threads that cuda/emulation plays.
set(SEQREC_CUDA_KERNELS
  cuda/augru_backward_cuda.cu
  cuda/augru_forward_cuda.cu
  cuda/cross_entropy_backward_cuda.cu
  cuda/cross_entropy_forward_cuda.cu
  cuda/cross_entropy_losses_cuda.cu
  cuda/cross_entropy_tensor_backward_cuda.cu
  cuda/cross_entropy_tensor_forward_cuda.cu
  cuda/dispatch_plan_cuda.cu
  cuda/dispatch_rows_cuda.cu
  cuda/gate_backward_cuda.cu
  cuda/gate_forward_cuda.cu
  cuda/gate_noise_cuda.cu
  cuda/grouped_linear_cuda.cu
  cuda/grouped_linear_weight_grad_cuda.cu
  cuda/gru_backward_cuda.cu
  cuda/gru_forward_cuda.cu
  cuda/lstm_backward_cuda.cu
  cuda/lstm_forward_cuda.cu
  cuda/multi_gate_cuda.cu
  cuda/rnn_backward_cuda.cu
  cuda/rnn_forward_cuda.cu
  cuda/rnn_kept_weights_cuda.cu
  cuda/rnn_noise_cuda.cu
  cuda/route_segments_cuda.cu
  cuda/row_sum_cuda.cu
  cuda/row_update_cuda.cu
  cuda/sampled_loss_cuda.cu
  cuda/segment_cuda.cu
  cuda/segment_cut_cuda.cu
  cuda/topk_cuda.cu
  cuda/topk_pack_cuda.cu
  cuda/topk_sift_cuda.cu
  cuda/topk_survivors_cuda.cu)
set(SEQREC_CUDA_BINDINGS
  bindings/cuda/module.cpp
  bindings/cuda/register_cross_entropy.cpp
  bindings/cuda/register_cross_entropy_tensor.cpp
  bindings/cuda/register_dispatch.cpp
  bindings/cuda/register_experts.cpp
  bindings/cuda/register_gate.cpp
  bindings/cuda/register_rnn.cpp
  bindings/cuda/register_row_update.cpp
  bindings/cuda/register_sampled_loss.cpp
  bindings/cuda/register_segments.cpp
  bindings/cuda/register_topk.cpp)
set(SEQREC_CUDA_OPS
  ops/cuda/cross_entropy.cpp
  ops/cuda/cross_entropy_tensor.cpp
  ops/cuda/dispatch.cpp
  ops/cuda/gate.cpp
  ops/cuda/grouped_linear.cpp
  ops/cuda/multi_gate.cpp
  ops/cuda/rnn.cpp
  ops/cuda/row_update.cpp
  ops/cuda/sampled_loss.cpp
  ops/cuda/segment.cpp
  ops/cuda/topk.cpp)
set_source_files_properties(${SEQREC_CUDA_OPS} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)

if(SEQREC_WITH_CUDA)
  pybind11_add_module(_cuda ${SEQREC_CUDA_BINDINGS} ${SEQREC_CUDA_OPS} ${SEQREC_CUDA_KERNELS})
  target_compile_definitions(_cuda PRIVATE SEQREC_CUDA_MODULE=_cuda)
  target_compile_options(_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${SEQREC_WARNINGS}>
    $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr -Xcudafe=--display_error_number>
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${SEQREC_WERROR}>>:-Werror=all-warnings>)
  target_precompile_headers(_cuda PRIVATE ${SEQREC_BINDING_HEADERS})
  set_target_properties(_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_STANDARD 17)
  target_link_libraries(_cuda PRIVATE seqrec_kernels CUDA::cudart_static)
  install(TARGETS _cuda LIBRARY DESTINATION seqrec_fast)
endif()

if(SEQREC_CUDA_EMULATION)
  pybind11_add_module(_cuda_emulated ${SEQREC_CUDA_BINDINGS} ${SEQREC_CUDA_OPS})
  # .cu files are C++ to this compiler
  add_library(seqrec_cuda_emulated STATIC ${SEQREC_CUDA_KERNELS} cuda/emulation/simt_emulation.cpp)
  set_source_files_properties(${SEQREC_CUDA_KERNELS} TARGET_DIRECTORY seqrec_cuda_emulated
    PROPERTIES LANGUAGE CXX)
  target_compile_options(seqrec_cuda_emulated PRIVATE -x c++ -O1 ${SEQREC_WARNINGS})
  foreach(target seqrec_cuda_emulated _cuda_emulated)
    target_compile_definitions(${target} PRIVATE SEQREC_SIMT_EMULATION
      SEQREC_CUDA_MODULE=_cuda_emulated)
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  endforeach()
  target_compile_options(_cuda_emulated PRIVATE ${SEQREC_WARNINGS})
  target_precompile_headers(_cuda_emulated PRIVATE ${SEQREC_BINDING_HEADERS})
  target_link_libraries(_cuda_emulated PRIVATE seqrec_cuda_emulated seqrec_kernels)
  install(TARGETS _cuda_emulated LIBRARY DESTINATION seqrec_fast)
endif()
