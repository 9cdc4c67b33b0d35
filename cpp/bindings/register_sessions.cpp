#include <pybind11/stl.h>

#include <optional>
#include <unordered_map>

#include "bindings/array_caster.h"
#include "bindings/item_catalogue_binding.h"
#include "bindings/register.h"
#include "bindings/rnn_stack_binding.h"
#include "ops/session_store.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

// Below it, the time that other Python threads would wait is shorter than handing the GIL over.
constexpr std::size_t kEventsWithoutGil = 16;

std::int64_t as_int64(PyObject* value, const char* function, const char* argument) {
    const py::object number = py::reinterpret_steal<py::object>(PyNumber_Index(value));
    if (!number) {
        throw py::error_already_set();
    }
    int overflow = 0;
    const auto result = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    SEQREC_CHECK(overflow == 0, function, ": ", argument, " has a number of more than 64 bits");
    return result;
}

// Into a key that exists, whose memory is used again.
void read_key(PyObject* value, const char* function, SessionKey& key) {
    if (PyUnicode_Check(value)) {
        Py_ssize_t size = 0;
        const char* text = PyUnicode_AsUTF8AndSize(value, &size);
        if (text == nullptr) {
            throw py::error_already_set();
        }
        key.is_text = true;
        key.number = 0;
        key.text.assign(text, static_cast<std::size_t>(size));
    } else if (PyIndex_Check(value)) {
        key.is_text = false;
        key.number = as_int64(value, function, "keys");
        key.text.clear();
    } else {
        throw py::type_error(concat(function, ": a key is of type ", Py_TYPE(value)->tp_name,
                                    "; expected int or str"));
    }
}

SessionKey as_key(PyObject* value, const char* function) {
    SessionKey key;
    read_key(value, function, key);
    return key;
}

// Items that are neither int nor str (NumPy's integers, say) become int. Only this runs code of the
// caller's, which may call the store again.
py::list plain_keys(const py::list& keys, const char* function) {
    py::list plain;
    for (const py::handle key : keys) {
        if (PyUnicode_Check(key.ptr()) || PyLong_Check(key.ptr())) {
            plain.append(key);
        } else {
            plain.append(py::int_(as_key(key.ptr(), function).number));
        }
    }
    return plain;
}

// The keys of one call, in memory that the thread keeps.
const std::vector<SessionKey>& as_keys(const py::list& given, const char* function) {
    py::list keys = given;
    for (const py::handle key : given) {
        if (!PyUnicode_Check(key.ptr()) && !PyLong_Check(key.ptr())) {
            keys = plain_keys(given, function);
            break;
        }
    }
    thread_local std::vector<SessionKey> result;
    result.resize(keys.size());
    for (std::size_t i = 0; i < result.size(); ++i) {
        read_key(PyList_GET_ITEM(keys.ptr(), static_cast<py::ssize_t>(i)), function, result[i]);
    }
    return result;
}

// The user's item ids, for calls that come as Python lists.
class ItemPositions {
  public:
    // All of `ids` are integers, or all texts.
    explicit ItemPositions(const py::list& ids) {
        std::int64_t position = 0;
        for (const py::handle id : ids) {
            positions_.emplace(as_key(id.ptr(), "SessionStore"), position++);
        }
    }
    // False if an item is neither int nor str: then another caller must make sense of it.
    bool find(const py::list& items, std::vector<std::int64_t>& found) const {
        found.clear();
        thread_local SessionKey key;
        for (const py::handle item : items) {
            const bool text = PyUnicode_CheckExact(item.ptr());
            if (!text && !PyLong_CheckExact(item.ptr())) {
                return false;
            }
            read_key(item.ptr(), "SessionStore.push", key);
            const auto at = positions_.find(key);
            if (at == positions_.end()) {
                return false;
            }
            found.push_back(at->second);
        }
        return true;
    }

  private:
    std::unordered_map<SessionKey, std::int64_t, SessionKey::Hash> positions_;
};

template <class T>
class Store {
  public:
    Store(const Object& stack, std::int64_t capacity, const py::list& item_ids)
        : stack_(stack),
          positions_(item_ids),
          store_(&stack.cast<const BoundRnnStack<T>&>().stack(), capacity) {}

    // False, and nothing done, if the items have to be looked up elsewhere.
    bool push(const py::list& keys, const py::list& items) {
        // The keys first: reading them may call this again, which uses the same memory.
        const auto& names = as_keys(keys, "SessionStore.push");
        thread_local std::vector<std::int64_t> found;
        if (names.size() != items.size() || !positions_.find(items, found)) {
            return false;
        }
        push_found(names, found.data());
        return true;
    }
    void push_positions(const py::list& keys, const Object& positions) {
        const auto view =
            matrix_view<const std::int64_t>("SessionStore.push", "positions", positions);
        const auto& names = as_keys(keys, "SessionStore.push");
        SEQREC_CHECK(view.columns == static_cast<std::int64_t>(names.size()),
                     "SessionStore.push: ", names.size(), " keys and ", view.columns, " items");
        push_found(names, view.data);
    }
    py::tuple recommend(const py::list& keys, const BoundCatalogue& items, std::int64_t k,
                        bool exclude_seen) {
        SEQREC_CHECK(k >= 1, "SessionStore.recommend: k is ", k, "; expected at least 1");
        const auto n = static_cast<std::int64_t>(keys.size());
        // Before the keys are read: making an object may run a finalizer that calls the store.
        py::array_t<float> scores({n, k});
        py::array_t<std::int64_t> ids({n, k});
        const auto& names = as_keys(keys, "SessionStore.recommend");
        SEQREC_CHECK(static_cast<std::int64_t>(names.size()) == n,
                     "SessionStore.recommend: keys changed while they were read");
        const MatrixView<float> scores_view{scores.mutable_data(), n, k, k};
        const MatrixView<std::int64_t> ids_view{ids.mutable_data(), n, k, k};
        {
            const py::gil_scoped_release release;
            store_.recommend(names, items.catalogue(), k, exclude_seen, scores_view, ids_view);
        }
        return py::make_tuple(scores, ids);
    }
    // None, and nothing done, if the items have to be looked up elsewhere.
    Object step(const py::list& keys, const py::list& event_items, const BoundCatalogue& items,
                std::int64_t k, bool exclude_seen) {
        SEQREC_CHECK(k >= 1, "SessionStore.step: k is ", k, "; expected at least 1");
        if (!push(keys, event_items)) {
            return py::none();
        }
        return recommend(keys, items, k, exclude_seen);
    }
    void forget(const py::list& keys) { store_.forget(as_keys(keys, "SessionStore.forget")); }
    bool contains(const Object& key) { return store_.contains(as_key(key.ptr(), "SessionStore")); }
    std::int64_t size() { return store_.size(); }

    // (keys, states, offsets, items), the session used longest ago first.
    py::tuple contents() {
        const auto all = [this] {
            const py::gil_scoped_release release;
            return store_.contents();
        }();
        py::list keys;
        for (const SessionKey& key : all.keys) {
            keys.append(key.is_text ? Object(py::str(key.text)) : Object(py::int_(key.number)));
        }
        const auto n = static_cast<py::ssize_t>(all.keys.size());
        const py::array_t<float> states({n, static_cast<py::ssize_t>(store_.width())},
                                        all.states.data());
        return py::make_tuple(keys, states, array_of(all.offsets), array_of(all.items));
    }
    void replace(const py::list& keys, const Object& states, const Object& offsets,
                 const Object& items) {
        const char* const kName = "SessionStore.restore";
        typename SessionStore<T>::Contents all;
        all.keys = as_keys(keys, kName);
        const auto n = static_cast<std::int64_t>(all.keys.size());
        const auto state = matrix_view<const float>(kName, "states", states);
        check_shape(kName, "states", state, n, store_.width());
        const auto bounds = matrix_view<const std::int64_t>(kName, "offsets", offsets);
        check_shape(kName, "offsets", bounds, 1, n + 1);
        const auto had = matrix_view<const std::int64_t>(kName, "items", items);
        SequenceLayout::ragged(bounds.data, n, had.columns, kName);  // checks the offsets
        all.states.assign(state.data, state.data + n * store_.width());
        all.offsets.assign(bounds.data, bounds.data + n + 1);
        all.items.assign(had.data, had.data + had.columns);
        const py::gil_scoped_release release;
        store_.replace(all);
    }

  private:
    void push_found(const std::vector<SessionKey>& keys, const std::int64_t* positions) {
        std::optional<py::gil_scoped_release> release;
        if (keys.size() > kEventsWithoutGil) {
            release.emplace();
        }
        store_.push(keys, positions);
    }

    Object stack_;  // kept alive for store_
    ItemPositions positions_;
    SessionStore<T> store_;
};

template <class T>
void register_dtype(py::module_& m, const char* class_name) {
    py::class_<Store<T>>(m, class_name)
        .def(py::init<const Object&, std::int64_t, const py::list&>(), py::arg("stack"),
             py::arg("capacity"), py::arg("item_ids"))
        .def("push", &Store<T>::push)
        .def("push_positions", &Store<T>::push_positions)
        .def("recommend", &Store<T>::recommend)
        .def("step", &Store<T>::step)
        .def("forget", &Store<T>::forget)
        .def("contains", &Store<T>::contains)
        .def("contents", &Store<T>::contents)
        .def("replace", &Store<T>::replace)
        .def("__len__", &Store<T>::size);
}

}  // namespace

void register_sessions(py::module_& m) {
    register_dtype<float>(m, "SessionStoreF32");
    register_dtype<double>(m, "SessionStoreF64");
}

}  // namespace seqrec_fast
