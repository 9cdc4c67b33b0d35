#include "ops/cuda/row_update.h"

#include <limits>

#include "cuda/row_update_kernels.h"

namespace seqrec_fast {

template <class T>
void row_sum(const char* function, const RowSum<T>& call, cudaStream_t stream) {
    const std::int64_t n = checked_row_count(function, call), dim = call.sums.columns;
    const std::size_t most = RowParts<T>::kMost;
    SEQREC_CHECK(call.rows.size() <= most, function, ": rows are ", call.rows.size(),
                 " matrices; expected up to ", most, " on a GPU");
    SEQREC_CHECK(n <= std::numeric_limits<std::int32_t>::max(), function, ": there are ", n,
                 " rows; expected less than 2^31 on a GPU");
    RowPartsSum<T> args{call.order.data,   call.begin.data, call.sums.rows, dim, {},
                        call.factors.data, call.sums.data};
    std::int64_t end = 0;
    for (std::size_t m = 0; m < call.rows.size(); ++m) {
        const std::int64_t repeats = call.repeats.empty() ? 1 : call.repeats[m];
        if (repeats > 0 && call.rows[m].rows > 0) {
            const auto part = static_cast<std::size_t>(args.parts.count++);
            args.parts.rows[part] = call.rows[m].data;
            args.parts.repeats[part] = repeats;
            args.parts.end[part] = end += repeats * call.rows[m].rows;
        }
    }
    row_sum_cuda(args, stream);
}

template <class T>
void update_rows(const char* function, const TableUpdate<T>& call, cudaStream_t stream) {
    row_update_cuda(checked_update_rows(function, call), stream);
}

template void row_sum(const char*, const RowSum<float>&, cudaStream_t);
template void row_sum(const char*, const RowSum<double>&, cudaStream_t);
template void update_rows(const char*, const TableUpdate<float>&, cudaStream_t);
template void update_rows(const char*, const TableUpdate<double>&, cudaStream_t);

}  // namespace seqrec_fast
