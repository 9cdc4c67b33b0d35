// What this build is: filled in by CMake.
#pragma once

namespace seqrec_fast {

extern const char* const kVersion;
extern const char* const kCompiler;
extern const char* const kCompilerFlags;
extern const char* const kHighwayVersion;
extern const char* const kCudaStatus;

}  // namespace seqrec_fast
