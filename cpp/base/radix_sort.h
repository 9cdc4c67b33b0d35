// A stable sort by an integer, byte by byte: for ids, whose upper bytes are mostly all the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace seqrec_fast {

// Sorts by key(element), an unsigned 64-bit number; equal keys stay in their order. One pass over
// the elements for each byte in which keys differ.
template <class Element, class Key>
void radix_sort(std::vector<Element>& elements, const Key& key) {
    std::uint64_t differs = 0;
    for (const Element& element : elements) {
        differs |= key(element) ^ key(elements.front());
    }
    std::vector<Element> other(differs == 0 ? 0 : elements.size());
    for (int shift = 0; shift < 64; shift += 8) {
        if ((differs >> shift & 0xff) == 0) {
            continue;
        }
        const auto digit = [&](const Element& element) { return key(element) >> shift & 0xff; };
        std::size_t begin[256] = {};
        for (const Element& element : elements) {
            ++begin[digit(element)];
        }
        std::size_t before = 0;
        for (std::size_t& place : begin) {
            before += std::exchange(place, before);
        }
        for (const Element& element : elements) {
            other[begin[digit(element)]++] = element;
        }
        elements.swap(other);
    }
}

}  // namespace seqrec_fast
