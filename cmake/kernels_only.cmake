# The rooms that decide what a processor is asked to do, and the tests of its kernels, without what the others need of the
# system: for processors that are only cross-compiled for. GoogleTest is built from its sources
# (Debian's libgtest-dev has them).
set(QW_GTEST_SOURCE /usr/src/googletest CACHE PATH "Sources of GoogleTest")
find_package(Threads REQUIRED)
enable_testing()

set(gtest ${QW_GTEST_SOURCE}/googletest)
add_library(qw_gtest STATIC ${gtest}/src/gtest-all.cc ${gtest}/src/gtest_main.cc)
target_include_directories(qw_gtest SYSTEM PUBLIC ${gtest}/include PRIVATE ${gtest})
target_link_libraries(qw_gtest PUBLIC Threads::Threads)
target_compile_options(qw_gtest PRIVATE -O1)

add_library(qw_rooms STATIC)
target_include_directories(qw_rooms PUBLIC ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(qw_rooms PUBLIC Threads::Threads)
foreach(room base tensor kernels ops)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${room}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cc$")
  list(FILTER sources EXCLUDE REGEX "/base/(log|password|sha256)\\.cc$")  # need spdlog and OpenSSL
  target_sources(qw_rooms PRIVATE ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(room STREQUAL "ops")
    # A whole layer's rows, in one call and in many: of the other tests nothing depends on the instruction set that those of the
    # kernels do not see.
    list(FILTER tests INCLUDE REGEX "/running_rows_test\\.cc$")
    target_sources(qw_rooms PRIVATE ${PROJECT_SOURCE_DIR}/cmake/no_sha256.cc)
  elseif(NOT room STREQUAL "kernels")
    continue()
  endif()
  set_source_files_properties(${tests} PROPERTIES COMPILE_OPTIONS -O1)  # as cmake/rooms.cmake has it
  add_executable(${room}_test ${tests})
  target_link_libraries(${room}_test PRIVATE qw_rooms qw_gtest)
  target_compile_definitions(${room}_test PRIVATE QW_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${room}_test COMMAND ${room}_test)
endforeach()
