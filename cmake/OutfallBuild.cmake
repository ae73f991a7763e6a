# Compiler settings shared by every target, and the helpers that keep the folders' lists short.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

# RelWithDebInfo is what a distribution builds; -O2 with asserts off.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
# -Og is unusable with sanitizers' false maybe-uninitialized warnings on g++ 12, -O1 is not.
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")

add_library(outfall_options INTERFACE)
target_compile_options(outfall_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-qual
  -Wimplicit-fallthrough -Wundef -Werror)
target_include_directories(outfall_options INTERFACE "${CMAKE_SOURCE_DIR}/lib" "${CMAKE_SOURCE_DIR}")
target_link_libraries(outfall_options INTERFACE Threads::Threads)
# Asio and Beast are compiled once, in lib/telemetry and daemon, not in every file that names them.
target_compile_definitions(outfall_options INTERFACE
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED
  SPDLOG_FMT_EXTERNAL)
# Places at which a test kills the worker (lib/core/crash_point.h). Nothing of them is in a release build.
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(outfall_crash_points_default ON)
else()
  set(outfall_crash_points_default OFF)
endif()
option(OUTFALL_CRASH_POINTS "Compile the crash points in" ${outfall_crash_points_default})
if(OUTFALL_CRASH_POINTS)
  target_compile_definitions(outfall_options INTERFACE OUTFALL_CRASH_POINTS)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(outfall_options INTERFACE -Wthread-safety -Werror=thread-safety)
endif()
option(OUTFALL_FUZZ "Build the fuzz targets instead of the test of their corpora (clang only)" OFF)
if(OUTFALL_FUZZ)
  # Tells libFuzzer which branches an input has reached.
  target_compile_options(outfall_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(OUTFALL_SANITIZE)
  target_compile_options(outfall_options INTERFACE
    -fsanitize=${OUTFALL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(outfall_options INTERFACE -fsanitize=${OUTFALL_SANITIZE})
endif()
if(OUTFALL_SANITIZE STREQUAL "thread")
  add_library(outfall_c11_threads STATIC "${CMAKE_SOURCE_DIR}/tests/sanitizers/c11_threads.cc")
  target_compile_options(outfall_c11_threads PRIVATE -fsanitize=thread)
  target_link_libraries(outfall_options INTERFACE outfall_c11_threads)
  target_link_options(outfall_options INTERFACE -Wl,--undefined=thrd_create)
endif()

# outfall_library(NAME SOURCES... [PUBLIC deps...] [PRIVATE deps...])
# Third-party headers come in as SYSTEM so that -Werror is about our code.
function(outfall_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC outfall_options ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
endfunction()

# Most of a g++ build was GoogleTest, CLI11 and the standard library, parsed and optimized again in
# every file. Clang builds go without, so that every file is also seen to include what it names.
option(OUTFALL_PRECOMPILED "Compile the largest headers once (g++ only)" ON)
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(OUTFALL_PRECOMPILED OFF)
endif()

# The files of a target are compiled together, sixteen at a time, so that each header is read once for
# all of them. It takes the compiler a third of the time, but after a change all sixteen again: the other
# presets compile each file alone, and so see that it includes what it names.
option(OUTFALL_JOINED "Compile the files of a target together" OFF)
if(OUTFALL_JOINED)
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 16)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It takes a file that is included for a header.
    target_compile_options(outfall_options INTERFACE -Wno-subobject-linkage)
  endif()
endif()

# For tests and for code that runs once a request: two thirds of the compiler's time. At this level g++
# 12 sees string literals beyond their bounds in correct code (its bugs 105329 and 105651), the more
# so from precompiled headers.
add_library(outfall_quick_build INTERFACE)
target_compile_options(outfall_quick_build INTERFACE $<$<CONFIG:RelWithDebInfo>:-O1 -g0>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(outfall_quick_build INTERFACE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow)
endif()

# Compiled once for all tests, whose own definitions do not occur in these headers.
function(outfall_test_headers)
  file(WRITE "${CMAKE_BINARY_DIR}/test_headers.cc" "")
  add_library(outfall_test_headers OBJECT "${CMAKE_BINARY_DIR}/test_headers.cc")
  target_link_libraries(outfall_test_headers PRIVATE
    outfall_options outfall_quick_build GTest::gtest GTest::gmock fmt::fmt)
  target_precompile_headers(outfall_test_headers PRIVATE
    <gtest/gtest.h> <gmock/gmock.h> <fmt/format.h> <boost/json.hpp>
    <algorithm> <chrono> <filesystem> <fstream> <functional> <map> <memory> <mutex> <optional> <set>
    <sstream> <stdexcept> <string> <thread> <vector>)
endfunction()

# What is worth building with a sanitizer: all tests but those that are `plain` (tests/CMakeLists.txt).
add_custom_target(instrumented_tests)

# outfall_test(NAME SOURCES... LIBS... [LABELS ...] [TIMEOUT SECONDS] [SHARDS N]) adds one GoogleTest
# binary and registers it with ctest as one test, or as N tests of every Nth of its cases, which may run
# beside each other: for those that wait for long, which begin first, so that none of them is left at the end.
function(outfall_test name)
  cmake_parse_arguments(arg "" "TIMEOUT;SHARDS" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE
    outfall_options outfall_quick_build ${arg_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  if(OUTFALL_PRECOMPILED)
    target_link_libraries(${name} PRIVATE fmt::fmt)
    target_precompile_headers(${name} REUSE_FROM outfall_test_headers)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if(arg_SHARDS)
    foreach(shard RANGE 1 ${arg_SHARDS})
      math(EXPR index "${shard} - 1")
      add_test(NAME ${name}_${shard} COMMAND ${name})
      set_tests_properties(${name}_${shard} PROPERTIES
        ENVIRONMENT "GTEST_TOTAL_SHARDS=${arg_SHARDS};GTEST_SHARD_INDEX=${index}"
        TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}" COST 100)
    endforeach()
  else()
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
  endif()
  if(NOT "plain" IN_LIST arg_LABELS)
    add_dependencies(instrumented_tests ${name})
  endif()
endfunction()
