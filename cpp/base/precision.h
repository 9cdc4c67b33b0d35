// The precision of weights and arithmetic.
#pragma once

namespace seqrec_fast {

// `full` is that of the arrays.
enum class Precision { full, bfloat16, int8 };

}  // namespace seqrec_fast
