// The one thread pool of the process.
#pragma once

#include <cstdint>
#include <functional>

namespace seqrec_fast {

// Threads that parallel_for may use, the calling one included. At first SEQREC_FAST_NUM_THREADS,
// else OMP_NUM_THREADS, else the processors this process may run on.
int num_threads();
// Throws std::invalid_argument unless 1 <= n <= 1024.
void set_num_threads(int n);

// Calls task(i) once for every i in [0, n), on up to num_threads() threads, and returns when all
// are done. Which thread runs which i is not fixed, so a task must not depend on it. Calls from
// inside a task, and calls while another thread's call is running, run on the calling thread. The
// first exception of a task is rethrown here. Safe after fork().
void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& task);

}  // namespace seqrec_fast
