#include "cuda/emulation/simt_emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace seqrec_fast {
namespace simt {
namespace {

constexpr std::size_t kStack = std::size_t{64} << 10;
constexpr unsigned kWarpSize = 32;
constexpr std::size_t kSlot = 16;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<unsigned char[]> stack;
    Index thread;
    bool done = false;
    // How many barriers and collectives it has reached.
    std::uint64_t block_syncs = 0, cluster_syncs = 0, collectives = 0;
};

struct Warp {
    // What lanes give, for a collective and the next one: a lane can be one ahead of the others.
    unsigned char slots[2][kWarpSize * kSlot] = {};
};

class Block {
  public:
    Block(Index block, std::size_t shared_bytes, unsigned cluster,
          const std::function<void()>& thread)
        : thread_(thread),
          threads_(std::size_t{block.x} * block.y * block.z),
          cluster_(cluster),
          fibers_(threads_ * cluster),
          warps_((fibers_.size() + kWarpSize - 1) / kWarpSize),
          shared_each_(shared_bytes / sizeof(std::max_align_t) + 1),
          shared_(shared_each_ * cluster) {
        if (cluster > 1 && threads_ % kWarpSize != 0) {
            fail("a cluster of blocks that are not whole warps");
        }
        for (auto& fiber : fibers_) {
            // not make_unique, which would write zeros to megabytes in each launch
            fiber.stack.reset(new unsigned char[kStack]);
        }
        position_.block_dim = block;
    }

    // `index`: of the first block of the cluster.
    void run(Index index, Index grid, std::uint64_t order) {
        first_block_ = index;
        position_.grid_dim = grid;
        const Index dim = position_.block_dim;
        // Shared memory holds what the last block left, or worse: nothing that may be relied on.
        std::memset(shared_.data(), 0x7f, shared_.size() * sizeof(std::max_align_t));
        for (std::size_t i = 0; i < fibers_.size(); ++i) {
            Fiber& fiber = fibers_[i];
            const auto at = static_cast<unsigned>(i % threads_);
            fiber.thread = {at % dim.x, at / dim.x % dim.y, at / (dim.x * dim.y)};
            fiber.done = false;
            fiber.block_syncs = fiber.cluster_syncs = fiber.collectives = 0;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = kStack;
            fiber.context.uc_link = &scheduler_;
            makecontext(&fiber.context, &Block::enter, 0);
        }
        schedule(order);
    }

    void sync_block() {
        const std::uint64_t mine = ++current_->block_syncs;
        progress_ = true;
        const auto begin = fibers_.begin() + static_cast<std::ptrdiff_t>(rank() * threads_);
        const auto end = begin + static_cast<std::ptrdiff_t>(threads_);
        while (std::any_of(begin, end, [&](const Fiber& other) {
            return !other.done && other.block_syncs < mine;
        })) {
            yield();
        }
    }
    void sync_cluster() {
        const std::uint64_t mine = ++current_->cluster_syncs;
        progress_ = true;
        while (std::any_of(fibers_.begin(), fibers_.end(), [&](const Fiber& other) {
            return !other.done && other.cluster_syncs < mine;
        })) {
            yield();
        }
    }

    const unsigned char* exchange(unsigned mask, const void* value, std::size_t bytes) {
        if (mask != 0xffffffffU) {
            fail("a collective of a part of a warp");
        }
        const std::uint64_t mine = ++current_->collectives;
        progress_ = true;
        Warp& warp = warps_[index() / kWarpSize];
        unsigned char* const slots = warp.slots[mine & 1];
        std::memset(slots + lane() * kSlot, 0, kSlot);
        std::memcpy(slots + lane() * kSlot, value, bytes);
        const std::size_t first = index() / kWarpSize * kWarpSize;
        const std::size_t last = std::min(first + kWarpSize, fibers_.size());
        while (std::any_of(
            fibers_.begin() + static_cast<std::ptrdiff_t>(first),
            fibers_.begin() + static_cast<std::ptrdiff_t>(last),
            [&](const Fiber& other) { return !other.done && other.collectives < mine; })) {
            yield();
        }
        for (std::size_t i = first; i < first + kWarpSize; ++i) {
            if (i >= last || fibers_[i].collectives < mine) {
                std::memset(slots + (i - first) * kSlot, 0, kSlot);
            }
        }
        return slots;
    }

    const Position& position() {
        position_.thread = current_->thread;
        position_.block = first_block_;
        position_.block.x += rank();
        return position_;
    }
    unsigned rank() const { return static_cast<unsigned>(index() / threads_); }
    unsigned cluster() const { return cluster_; }
    void* shared_of(void* p, unsigned other) {
        const std::ptrdiff_t offset =
            static_cast<unsigned char*>(p) - static_cast<unsigned char*>(shared());
        return reinterpret_cast<unsigned char*>(&shared_[other * shared_each_]) + offset;
    }
    unsigned lane() const { return static_cast<unsigned>(index() % kWarpSize); }
    void* shared() { return &shared_[rank() * shared_each_]; }

  private:
    static void enter();

    std::size_t index() const { return static_cast<std::size_t>(current_ - fibers_.data()); }

    [[noreturn]] static void fail(const char* what) {
        throw std::runtime_error(std::string("emulated CUDA: ") + what);
    }

    void yield() { swapcontext(&current_->context, &scheduler_); }

    // Turns until all threads have returned. `order` sets which thread goes first, and whether
    // the others follow upwards or downwards.
    void schedule(std::uint64_t order) {
        const std::size_t n = fibers_.size();
        std::size_t left = n;
        while (left > 0) {
            progress_ = false;
            for (std::size_t i = 0; i < n; ++i) {
                const std::size_t turn = (order / 2 * 7 + i) % n;
                Fiber& fiber = fibers_[order % 2 == 0 ? turn : n - 1 - turn];
                if (fiber.done) {
                    continue;
                }
                current_ = &fiber;
                swapcontext(&scheduler_, &fiber.context);
                if (error_) {
                    std::rethrow_exception(std::exchange(error_, nullptr));
                }
                if (fiber.done) {
                    progress_ = true;
                    --left;
                }
            }
            if (!progress_) {
                fail("threads wait for each other for ever");
            }
        }
    }

    const std::function<void()>& thread_;
    std::size_t threads_;  // of a block
    unsigned cluster_;
    std::vector<Fiber> fibers_;
    std::vector<Warp> warps_;
    std::size_t shared_each_;
    std::vector<std::max_align_t> shared_;
    ucontext_t scheduler_{};
    Fiber* current_ = nullptr;
    Position position_;
    Index first_block_;
    bool progress_ = false;
    std::exception_ptr error_;
};

thread_local Block* t_block = nullptr;
thread_local std::uint64_t t_launches = 0;

void Block::enter() {
    Block& block = *t_block;
    try {
        block.thread_();
    } catch (...) {
        block.error_ = std::current_exception();
    }
    block.current_->done = true;
}

}  // namespace

const Position& position() {
    return t_block->position();
}

void sync_block() {
    t_block->sync_block();
}

const unsigned char* exchange(unsigned mask, const void* value, std::size_t bytes) {
    return t_block->exchange(mask, value, bytes);
}

unsigned lane() {
    return t_block->lane();
}

void* dynamic_shared() {
    return t_block->shared();
}

unsigned cluster_size() {
    return t_block->cluster();
}

unsigned cluster_rank() {
    return t_block->rank();
}

void sync_cluster() {
    t_block->sync_cluster();
}

void* shared_of_rank(void* p, unsigned rank) {
    return t_block->shared_of(p, rank);
}

void run(Index grid, Index block, std::size_t shared_bytes, const std::function<void()>& thread,
         unsigned cluster) {
    Block emulated(block, shared_bytes, cluster, thread);
    Block* const outer = std::exchange(t_block, &emulated);
    ++t_launches;
    try {
        for (unsigned z = 0; z < grid.z; ++z) {
            for (unsigned y = 0; y < grid.y; ++y) {
                for (unsigned x = 0; x < grid.x; x += cluster) {
                    emulated.run({x, y, z}, grid, t_launches);
                }
            }
        }
    } catch (...) {
        t_block = outer;
        throw;
    }
    t_block = outer;
}

}  // namespace simt
}  // namespace seqrec_fast
