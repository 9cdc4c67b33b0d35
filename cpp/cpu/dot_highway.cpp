// Dot products for every target, in Highway: what machines without dot instructions use.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dot_highway.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cpu/dot_backends.h"
#include "cpu/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

using DotSums = Lanes<float>;
using DotWords = Lanes<std::uint32_t>;
using DotInts = Lanes<std::int32_t>;

// bfloat16 is the upper half of a float32: two multiply-adds in float32 per word.
namespace dot_bf16 {
struct Isa {
    // With constructors of its own, because those that the compiler adds are not for this target.
    struct Pair {
        HWY_INLINE Pair() {}
        HWY_INLINE Pair(hn::Vec<DotSums> e, hn::Vec<DotSums> o) : even(e), odd(o) {}
        hn::Vec<DotSums> even, odd;
    };
    using Sum = hn::Vec<DotSums>;
    using Weight = Pair;
    using Row = Pair;
    static constexpr int kLanes = static_cast<int>(lane_count<float>());
    // Few beside operands of two registers each.
    static constexpr int kAccumulators =
        HWY_NAMESPACE::kAccumulators == 12 ? 8 : HWY_NAMESPACE::kAccumulators;

    static HWY_INLINE Sum start(const std::int32_t*) { return hn::Zero(DotSums()); }
    static HWY_INLINE Pair widened(hn::Vec<DotWords> words) {
        const DotSums d;
        return {hn::BitCast(d, hn::ShiftLeft<16>(words)),
                hn::BitCast(d, hn::And(words, hn::Set(DotWords(), 0xffff0000U)))};
    }
    static HWY_INLINE Weight load(const std::uint32_t* p) {
        return widened(hn::LoadU(DotWords(), p));
    }
    static HWY_INLINE Row broadcast(std::uint32_t word) {
        return widened(hn::Set(DotWords(), word));
    }
    static HWY_INLINE Sum dot(Sum sum, const Row& a, const Weight& w) {
        return hn::MulAdd(a.odd, w.odd, hn::MulAdd(a.even, w.even, sum));
    }
    static HWY_INLINE void store(void* p, Sum sum) {
        hn::StoreU(sum, DotSums(), static_cast<float*>(p));
    }
};
#include "cpu/dot_tiles-inl.h"
}  // namespace dot_bf16

namespace dot_int8 {
struct Isa {
    struct Bytes {
        HWY_INLINE Bytes() {}
        hn::Vec<DotInts> values[4];
    };
    using Sum = hn::Vec<DotInts>;
    using Weight = Bytes;
    using Row = Bytes;
    static constexpr int kLanes = static_cast<int>(lane_count<std::int32_t>());
    static constexpr int kAccumulators = 4;

    static HWY_INLINE Sum start(const std::int32_t*) { return hn::Zero(DotInts()); }
    static HWY_INLINE Bytes widened(hn::Vec<DotInts> words) {
        Bytes bytes;
        bytes.values[0] = hn::ShiftRight<24>(hn::ShiftLeft<24>(words));
        bytes.values[1] = hn::ShiftRight<24>(hn::ShiftLeft<16>(words));
        bytes.values[2] = hn::ShiftRight<24>(hn::ShiftLeft<8>(words));
        bytes.values[3] = hn::ShiftRight<24>(words);
        return bytes;
    }
    static HWY_INLINE Weight load(const std::uint32_t* p) {
        return widened(hn::LoadU(DotInts(), reinterpret_cast<const std::int32_t*>(p)));
    }
    static HWY_INLINE Row broadcast(std::uint32_t word) {
        return widened(hn::Set(DotInts(), static_cast<std::int32_t>(word)));
    }
    static HWY_INLINE Sum dot(Sum sum, const Row& a, const Weight& w) {
        for (int i = 0; i < 4; ++i) {
            sum = hn::Add(sum, hn::Mul(a.values[i], w.values[i]));
        }
        return sum;
    }
    static HWY_INLINE void store(void* p, Sum sum) {
        hn::StoreU(sum, DotInts(), static_cast<std::int32_t*>(p));
    }

    using Items = Bytes;
    static constexpr std::int32_t kCodeOffset = 0;
    static constexpr std::int64_t kRowsFromHalves = 0;

    static HWY_INLINE Items items(const std::uint32_t* p) {
        const DotWords du;
        const DotInts di;
        const auto words = hn::LoadU(du, p);
        const auto byte = hn::Set(du, 0xff);
        Bytes codes;
        codes.values[0] = hn::BitCast(di, hn::And(words, byte));
        codes.values[1] = hn::BitCast(di, hn::And(hn::ShiftRight<8>(words), byte));
        codes.values[2] = hn::BitCast(di, hn::And(hn::ShiftRight<16>(words), byte));
        codes.values[3] = hn::BitCast(di, hn::ShiftRight<24>(words));
        return codes;
    }
    static HWY_INLINE Sum dot_items(Sum sum, const Items& codes, const Row& row) {
        return dot(sum, row, codes);
    }
    static HWY_INLINE Sum zero() { return hn::Zero(DotInts()); }
    static HWY_INLINE Sum start_items(const float* bias, float scale) {
        const DotSums d;
        const auto units = hn::Mul(hn::LoadU(d, bias), hn::Set(d, scale));
        const auto least = hn::Set(d, kLeastStart);
        return hn::NearestInt(hn::IfThenElse(hn::Gt(units, least), units, least));
    }
    static HWY_INLINE std::uint32_t at_least(Sum sum, std::int32_t threshold) {
        const DotInts di;
        std::uint8_t bytes[8] = {};
        hn::StoreMaskBits(di, hn::Not(hn::Lt(sum, hn::Set(di, threshold))), bytes);
        return static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8;
    }
};
#include "cpu/dot_tiles-inl.h"
#include "cpu/scan_tiles-inl.h"
}  // namespace dot_int8

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
namespace {

void multiply_bf16(const DotArgs& args) {
    static SEQREC_DISPATCH_TABLE(kTable, dot_bf16::multiply);
    kTable[active_target()](args);
}
void multiply_int8(const DotArgs& args) {
    static SEQREC_DISPATCH_TABLE(kTable, dot_int8::multiply);
    kTable[active_target()](args);
}
void scan_int8(const ScanArgs& args) {
    static SEQREC_DISPATCH_TABLE(kTable, dot_int8::scan);
    kTable[active_target()](args);
}

constexpr Target kFloor = static_cast<Target>(0);
constexpr auto kAlways = [] { return true; };

}  // namespace

const DotBackend kDotBf16Highway = {
    "highway",    DotType::bfloat16, kFloor,  kAlways, 0, no_dot_setup,
    no_dot_setup, multiply_bf16,     nullptr, 0,       0};
const DotBackend kDotInt8Highway = {
    "highway",    DotType::int8, kFloor,    kAlways, 0, no_dot_setup,
    no_dot_setup, multiply_int8, scan_int8, 0,       0};

}  // namespace seqrec_fast
#endif  // HWY_ONCE
