// The arguments of dispatch and segments, as Python passes them for every device.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "bindings/gate_call.h"
#include "ops/dispatch.h"
#include "ops/route_segments.h"
#include "ops/segment.h"

namespace seqrec_fast {

// `view<U>(argument, object)` of `arrays` reads an array of the device.
template <class Arrays>
DispatchByExpert read_dispatch(const Arrays& arrays, const pybind11::object& offsets,
                               const pybind11::object& expert_ids, std::int64_t num_experts,
                               std::int64_t capacity) {
    return {arrays.template view<const std::int64_t>("offsets", offsets),
            arrays.template view<const std::int64_t>("expert_ids", expert_ids), num_experts,
            capacity};
}

template <class T, class Arrays>
DispatchRows<T> read_dispatch_rows(const Arrays& arrays, const pybind11::object& values,
                                   const pybind11::object& position,
                                   const pybind11::object& weights, const pybind11::object& other,
                                   const pybind11::object& rows, const pybind11::object& dots) {
    return {arrays.template view<const T>("values", values),
            arrays.template view<const std::int64_t>("position", position),
            arrays.template view<const T>("weights", weights),
            arrays.template view<const T>("dispatched", other),
            arrays.template view<T>("dispatched", rows),
            arrays.template view<T>("dots", dots)};
}

template <class T, class Arrays>
CombineRows<T> read_combine_rows(const Arrays& arrays, const pybind11::object& rows,
                                 const pybind11::object& position, const pybind11::object& weights,
                                 const pybind11::object& other, const pybind11::object& sums,
                                 const pybind11::object& dots) {
    return {arrays.template view<const T>("dispatched", rows),
            arrays.template view<const std::int64_t>("position", position),
            arrays.template view<const T>("weights", weights),
            arrays.template view<const T>("values", other),
            arrays.template view<T>("output", sums),
            arrays.template view<T>("dots", dots)};
}

template <class Time, class Arrays>
SessionSegments<Time> read_session_segments(const Arrays& arrays, const std::string& rule,
                                            const pybind11::object& offsets,
                                            const pybind11::object& times, std::int64_t window,
                                            double gap, std::int64_t count) {
    return {parse_segment_rule(rule),
            arrays.template view<const std::int64_t>("offsets", offsets),
            arrays.template view<const Time>("times", times),
            window,
            gap,
            count};
}

template <class T, class Arrays>
SegmentSum<T> read_segment_sum(const Arrays& arrays, const pybind11::object& values,
                               const pybind11::object& segment_offsets, bool mean,
                               const pybind11::object& out) {
    return {arrays.template view<const T>("values", values),
            arrays.template view<const std::int64_t>("segment_offsets", segment_offsets), mean,
            arrays.template view<T>("output", out)};
}

template <class T, class Arrays>
ExpandSegments<T> read_expand_segments(const Arrays& arrays, const pybind11::object& per_segment,
                                       const pybind11::object& segment_offsets, bool mean,
                                       const pybind11::object& out) {
    return {arrays.template view<const T>("per_segment", per_segment),
            arrays.template view<const std::int64_t>("segment_offsets", segment_offsets), mean,
            arrays.template view<T>("output", out)};
}

template <class T, class Arrays>
RouteSegments<T> read_route_segments(const Arrays& arrays, const pybind11::object& values,
                                     const pybind11::object& segment_offsets,
                                     const pybind11::object& prototypes, std::int64_t k,
                                     const std::string& score, const std::string& order,
                                     bool renormalize, const pybind11::object& bias,
                                     const pybind11::object& mask, double scale,
                                     const pybind11::object& means, const pybind11::object& logits,
                                     const pybind11::object& weights, const pybind11::object& ids) {
    RouteSegments<T> call{};
    call.values = arrays.template view<const T>("values", values);
    call.offsets = arrays.template view<const std::int64_t>("segment_offsets", segment_offsets);
    call.prototypes = arrays.template view<const T>("prototypes", prototypes);
    call.gate = read_gate_call<T>(arrays, pybind11::none(), k, score, order, renormalize, bias,
                                  mask, scale);
    call.means = arrays.template view<T>("means", means);
    call.logits = arrays.template view<T>("logits", logits);
    call.weights = arrays.template view<T>("weights", weights);
    call.ids = arrays.template view<std::int64_t>("ids", ids);
    return call;
}

}  // namespace seqrec_fast
