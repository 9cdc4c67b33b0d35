#include "base/parallel.h"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace seqrec_fast {
namespace {

constexpr int kMaxThreads = 1024;

int processors() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        return std::max(1, CPU_COUNT(&set));
    }
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// What users limit all their numerical libraries with; torchrun sets it for several processes. As
// OpenMP does, the first number of a list counts and what is no number is ignored.
int openmp_threads() {
    const char* wanted = std::getenv("OMP_NUM_THREADS");
    const long n = wanted == nullptr ? 0 : std::strtol(wanted, nullptr, 10);
    return n >= 1 ? static_cast<int>(std::min<long>(n, kMaxThreads)) : 0;
}

int initial_threads() {
    const char* wanted = std::getenv("SEQREC_FAST_NUM_THREADS");
    if (wanted == nullptr || *wanted == '\0') {
        const int shared = openmp_threads();
        return shared != 0 ? shared : std::min(processors(), kMaxThreads);
    }
    char* end = nullptr;
    const long n = std::strtol(wanted, &end, 10);
    SEQREC_CHECK(*end == '\0' && n >= 1 && n <= kMaxThreads, "SEQREC_FAST_NUM_THREADS is ", wanted,
                 "; expected a number from 1 to ", kMaxThreads);
    return static_cast<int>(n);
}

// One parallel_for: threads draw indices until none is left.
struct Job {
    const std::function<void(std::int64_t)>* task;
    std::int64_t n;
    std::atomic<std::int64_t> next{0};
    std::mutex error_mutex;
    std::exception_ptr error;

    void work() {
        for (std::int64_t i = next.fetch_add(1); i < n; i = next.fetch_add(1)) {
            try {
                (*task)(i);
            } catch (...) {
                const std::lock_guard<std::mutex> lock(error_mutex);
                if (!error) {
                    error = std::current_exception();
                }
                next.store(n);
            }
        }
    }
};

thread_local bool t_inside_task = false;

class Pool {
  public:
    explicit Pool(int helpers) {
        threads_.reserve(static_cast<std::size_t>(helpers));
        for (int i = 0; i < helpers; ++i) {
            threads_.emplace_back([this, i] { loop(i); });
        }
    }
    ~Pool() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int helpers() const { return static_cast<int>(threads_.size()); }

    void run(Job& job, int helpers) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            job_ = &job;
            wanted_ = helpers;
            running_ = helpers;
            ++generation_;
        }
        wake_.notify_all();
        t_inside_task = true;
        job.work();
        t_inside_task = false;
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return running_ == 0; });
        job_ = nullptr;
    }

  private:
    void loop(int index) {
        t_inside_task = true;
        std::uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
            if (stop_) {
                return;
            }
            seen = generation_;
            if (index >= wanted_) {
                continue;
            }
            Job* job = job_;
            lock.unlock();
            job->work();
            lock.lock();
            if (--running_ == 0) {
                done_.notify_one();
            }
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> threads_;
    Job* job_ = nullptr;
    int wanted_ = 0;
    int running_ = 0;
    std::uint64_t generation_ = 0;
    bool stop_ = false;
};

// What parallel_for needs of the process. After fork() the child has none of the threads and the
// locks may be held by threads that no longer exist, so the child leaves the old state alone
// (never frees it) and makes its own.
struct PoolState {
    PoolState(int threads, unsigned forks) : n_forks(forks), n_threads(threads) {}
    const unsigned n_forks;
    std::atomic<int> n_threads;
    std::mutex busy;
    std::unique_ptr<Pool> pool;
};

// How often fork() made this process out of another; asking for its id would be a system call.
std::atomic<unsigned> g_forks{0};

PoolState& state() {
    static std::atomic<PoolState*> g_state{nullptr};
    static const int watching = pthread_atfork(nullptr, nullptr, [] { ++g_forks; });
    SEQREC_CHECK(watching == 0, "parallel_for: no memory for a handler of fork");
    PoolState* current = g_state.load(std::memory_order_acquire);
    while (current == nullptr || current->n_forks != g_forks.load(std::memory_order_relaxed)) {
        auto* fresh = new PoolState(
            current == nullptr ? initial_threads() : current->n_threads.load(), g_forks.load());
        if (g_state.compare_exchange_strong(current, fresh)) {
            return *fresh;
        }
        delete fresh;
    }
    return *current;
}

}  // namespace

int num_threads() {
    return state().n_threads.load();
}

void set_num_threads(int n) {
    SEQREC_CHECK(n >= 1 && n <= kMaxThreads, "set_num_threads: n is ", n,
                 "; expected a number from 1 to ", kMaxThreads);
    state().n_threads.store(n);
}

void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& task) {
    if (n <= 0) {
        return;
    }
    PoolState& pool_state = state();
    const int threads = static_cast<int>(std::min<std::int64_t>(n, pool_state.n_threads.load()));
    std::unique_lock<std::mutex> busy(pool_state.busy, std::defer_lock);
    if (threads == 1 || t_inside_task || !busy.try_lock()) {
        for (std::int64_t i = 0; i < n; ++i) {
            task(i);
        }
        return;
    }
    if (!pool_state.pool || pool_state.pool->helpers() < threads - 1) {
        pool_state.pool.reset();
        pool_state.pool = std::make_unique<Pool>(threads - 1);
    }
    Job job;
    job.task = &task;
    job.n = n;
    pool_state.pool->run(job, threads - 1);
    if (job.error) {
        std::rethrow_exception(job.error);
    }
}

}  // namespace seqrec_fast
