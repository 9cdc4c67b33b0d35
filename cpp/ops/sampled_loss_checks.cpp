// What sampled losses ask of their arguments, on every device.
#include "base/enum_names.h"
#include "ops/argument_checks.h"
#include "ops/sampled_loss.h"

namespace seqrec_fast {

SampledLoss parse_sampled_loss(const std::string& name) {
    static constexpr EnumName<SampledLoss> kNames[] = {
        {"softmax", SampledLoss::softmax},
        {"corrected_softmax", SampledLoss::corrected_softmax},
        {"bpr_max", SampledLoss::bpr_max},
        {"top1_max", SampledLoss::top1_max},
        {"gbce", SampledLoss::gbce}};
    return parse_enum("loss", name, kNames);
}

Collisions parse_collisions(const std::string& name) {
    static constexpr EnumName<Collisions> kNames[] = {
        {"keep", Collisions::keep}, {"mask", Collisions::mask}, {"own", Collisions::own}};
    return parse_enum("collisions", name, kNames);
}

void check_negatives(const char* function, const MatrixView<const std::int64_t>& negatives,
                     Collisions collisions, std::int64_t rows) {
    const std::int64_t groups = negatives.rows, n = negatives.columns;
    check_required(function, "negatives", negatives, groups, n);
    SEQREC_CHECK(n >= 1 && groups >= 1 && (groups <= rows || rows == 0), function,
                 ": negatives has shape (", groups, ", ", n, "); expected 1 to ", rows,
                 " sets of one or more");
    const bool own = collisions == Collisions::own;
    SEQREC_CHECK(!own || groups == 1, function,
                 ": collisions is own; expected one set of negatives for all rows");
    SEQREC_CHECK(!own || n >= rows, function, ": negatives has shape (1, ", n, "); expected the ",
                 rows, " targets first, because collisions is own");
}

}  // namespace seqrec_fast
