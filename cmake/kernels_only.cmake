# The rooms whose code depends on the processor, and their tests, without what the others need of the system: for
# processors that are only cross-compiled for. GoogleTest is built from its sources (Debian's libgtest-dev has them).
set(QW_GTEST_SOURCE /usr/src/googletest/googletest CACHE PATH "Sources of GoogleTest")
find_package(Threads REQUIRED)
enable_testing()

set(gtest_sources ${QW_GTEST_SOURCE}/src/gtest-all.cc ${QW_GTEST_SOURCE}/src/gtest_main.cc)
add_library(qw_gtest STATIC ${gtest_sources})
target_include_directories(qw_gtest SYSTEM PUBLIC ${QW_GTEST_SOURCE}/include PRIVATE ${QW_GTEST_SOURCE})
target_link_libraries(qw_gtest PUBLIC Threads::Threads)

file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/base/*.cc ${PROJECT_SOURCE_DIR}/src/tensor/*.cc
     ${PROJECT_SOURCE_DIR}/src/kernels/*.cc)
set(tests ${sources})
list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cc$")
list(FILTER sources EXCLUDE REGEX "/base/(log|sha256)\\.cc$")  # need spdlog and OpenSSL
list(FILTER tests INCLUDE REGEX "/kernels/.*_test\\.cc$")
add_library(qw_kernels STATIC ${sources})
target_include_directories(qw_kernels PUBLIC ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(qw_kernels PUBLIC Threads::Threads)
add_executable(kernels_test ${tests})
target_link_libraries(kernels_test PRIVATE qw_kernels qw_gtest)
target_compile_definitions(kernels_test PRIVATE QW_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
add_test(NAME kernels_test COMMAND kernels_test)
