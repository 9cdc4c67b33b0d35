# Highway's headers, from the system or fetched. Only headers: nothing of Highway is linked, so a
# wheel does not need it (see cpp/base/highway_targets.h).
find_path(HIGHWAY_INCLUDE_DIR hwy/highway.h
          DOC "Folder that holds hwy/highway.h (Debian: libhwy-dev)")
if(NOT HIGHWAY_INCLUDE_DIR)
  message(STATUS "hwy/highway.h not found (Debian: apt-get install libhwy-dev); fetching Highway")
  include(FetchContent)
  FetchContent_Declare(
    highway
    GIT_REPOSITORY https://github.com/google/highway.git
    GIT_TAG ac0d5d297b13ab1b89f48484fc7911082d76a93f # 1.3.0
    SOURCE_SUBDIR headers-only) # no such folder: fetch, but build nothing
  FetchContent_MakeAvailable(highway)
  set(HIGHWAY_INCLUDE_DIR ${highway_SOURCE_DIR})
endif()
add_library(highway_headers INTERFACE)
target_include_directories(highway_headers SYSTEM INTERFACE ${HIGHWAY_INCLUDE_DIR})
