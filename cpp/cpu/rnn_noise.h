// Noise inside a recurrent layer while it trains: recurrent dropout and zoneout.
#pragma once

#include <cstdint>
#include <vector>

namespace seqrec_fast {

// The bits of a unit are a function of the seed, the stream, the session, the step and the unit
// (cpu/philox-inl.h), whatever the layout and the number of threads; backward draws them again.
struct RnnNoise {
    // Probability that a unit of the candidate (n of a GRU, g of an LSTM, the new state of a plain
    // RNN) is dropped; the others are scaled by 1 / (1 - recurrent_dropout). Semeniuta et al.,
    // 2016, arXiv:1603.05118.
    double recurrent_dropout = 0;
    // Probability that a unit of h, and independently of c, keeps its value of the step before.
    // Krueger et al., 2017, arXiv:1606.01305.
    double zoneout = 0;
    // False: states are blended by the expectation of zoneout, and nothing is dropped.
    bool random = false;
    std::uint64_t seed = 0;
    std::uint32_t stream = 0;            // tells layers and directions of one call apart
    std::vector<std::int64_t> sessions;  // the number each session counts as; empty: its place

    bool drops() const { return random && recurrent_dropout > 0; }
    bool zones() const { return zoneout > 0; }
    std::int64_t session(std::int64_t place) const {
        return sessions.empty() ? place : sessions[static_cast<std::size_t>(place)];
    }
};

}  // namespace seqrec_fast
