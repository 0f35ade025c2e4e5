// A step in the middle of answers allocates nothing and takes no lock. This program counts both.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/internal/tiny_model.h"

// Sanitizers have allocators and locks of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QW_COUNTS 0
#else
#define QW_COUNTS 1
#endif

namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> allocations{0}, locks{0};

#if QW_COUNTS
void* counted(std::size_t bytes, std::size_t alignment) {
  if (counting) ++allocations;
  bytes = bytes == 0 ? 1 : bytes;
  void* p = alignment <= alignof(std::max_align_t)
                ? std::malloc(bytes)
                : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
// By itself: where only the one of new and delete is inlined, GCC takes free for another's memory.
[[gnu::noinline]] void give_back(void* p) { std::free(p); }
#endif

}  // namespace

#if QW_COUNTS
void* operator new(std::size_t n) { return counted(n, 0); }
void* operator new[](std::size_t n) { return counted(n, 0); }
void* operator new(std::size_t n, std::align_val_t a) { return counted(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return counted(n, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { give_back(p); }
void operator delete[](void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  using Lock = int (*)(pthread_mutex_t*);
  static const auto lock = reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (counting) ++locks;
  return lock(mutex);
}
#endif

namespace qw::engine {
namespace {

struct Counter final : Sink {
  std::int64_t tokens = 0;
  Verdict on_token(const TokenEvent&) noexcept override {
    ++tokens;
    return Verdict::kContinue;
  }
  void on_finished(const Finished&) noexcept override {}
};

class SteadyStep : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!QW_COUNTS) GTEST_SKIP() << "allocations are counted without sanitizers only";
  }
};

// Steps of which each is to allocate nothing and, on one thread, to lock nothing.
void expect_steady(Engine& engine, int steps, int threads) {
  allocations = locks = 0;
  counting = true;
  for (int i = 0; i < steps; ++i) engine.step();
  counting = false;
  EXPECT_EQ(allocations, 0) << "with " << threads << " threads";
  if (threads == 1) {  // a thread pool may park and wake its threads
    EXPECT_EQ(locks, 0);
  }
}

Request of_tokens(std::int64_t prompt, std::int64_t answer, std::uint64_t seed, std::shared_ptr<Sink> sink) {
  Request r;
  for (std::int64_t t = 0; t < prompt; ++t)
    r.prompt.push_back(static_cast<TokenId>((7 * static_cast<std::uint64_t>(t) + seed) % kTinyVocab));
  r.max_tokens = answer;
  r.params.seed = seed;
  r.sink = std::move(sink);
  return r;
}

TEST_P(SteadyStep, AllocatesNothingAndLocksNothing) {
  for (const int threads : {1, 2}) {
    LoadOptions options = small_options();
    options.threads = threads;
    options.engine.target_gap_ms = 5;
    const auto loaded = load(GetParam(), tensor::DType::kQ8_0, options);
    Engine& engine = loaded->engine();
    const auto counter = std::make_shared<Counter>();
    for (std::uint64_t i = 0; i < 5; ++i) {
      Request r = of_tokens(static_cast<std::int64_t>(10 + 3 * i), 90, i, counter);
      r.params.temperature = i == 0 ? 0.0f : 1.0f;
      if (i == 1) r.params.top_k = 20;
      if (i == 2) r.params.top_p = 0.9f;
      if (i == 3) r.params.repetition_penalty = 1.2f, r.params.frequency_penalty = 0.1f;
      if (i == 4) r.params.logprobs = true, r.params.top_logprobs = 4;
      r.tenant = i % 2 == 0 ? "even" : "odd";
      ASSERT_TRUE(engine.submit(std::move(r)));
    }
    for (int i = 0; i < 12; ++i) engine.step();
    const std::int64_t before = counter->tokens;
    expect_steady(engine, 50, threads);  // over several ends of blocks of 8
    EXPECT_EQ(counter->tokens - before, 5 * 50);
    while (engine.step()) {
    }
    counting = true;
    ::operator delete(::operator new(1));  // a compiler may leave out a new with its delete, but not these
    counting = false;
    EXPECT_EQ(allocations, 1);  // it does count
  }
}

// Parts of long prompts, alone and beside answers, with keys and values of every type.
TEST_P(SteadyStep, PromptsInPartsToo) {
  for (const auto cache :
       {tensor::DType::kF32, tensor::DType::kF16, tensor::DType::kBF16, tensor::DType::kQ8_0, tensor::DType::kQ4_0}) {
    for (const int threads : {1, 2}) {
      SCOPED_TRACE(std::string(tensor::name(cache)) + ", threads " + std::to_string(threads));
      LoadOptions options = small_options();
      options.threads = threads;
      options.cache_dtype = cache;
      options.block_tokens = 32;  // as scales want it
      options.engine.max_rows = 8;
      const auto loaded = load(GetParam(), tensor::DType::kQ8_0, options);
      Engine& engine = loaded->engine();
      const auto counter = std::make_shared<Counter>();
      ASSERT_TRUE(engine.submit(of_tokens(100, 4, 1, counter)));
      for (int i = 0; i < 2; ++i) engine.step();
      expect_steady(engine, 9, threads);
      EXPECT_EQ(counter->tokens, 0) << "still reading";
      while (engine.step()) {
      }
      ASSERT_TRUE(engine.submit(of_tokens(5, 100, 2, counter)));
      for (int i = 0; i < 4; ++i) engine.step();
      ASSERT_TRUE(engine.submit(of_tokens(90, 4, 3, counter)));
      for (int i = 0; i < 2; ++i) engine.step();
      const std::int64_t before = counter->tokens;
      expect_steady(engine, 8, threads);
      EXPECT_EQ(counter->tokens - before, 8) << "one answers, one is read";
      while (engine.step()) {
      }
    }
  }
}

TEST(SteadySteps, OfAdaptersToo) {
  if (!QW_COUNTS) GTEST_SKIP() << "allocations are counted without sanitizers only";
  for (const int threads : {1, 2}) {
    auto model = tiny_model("qwen3");
    const Weights weights = random_weights(*model, tensor::DType::kQ8_0);
    const ops::LowRankAdapter adapters[] = {random_adapter(*model, 5, 3), random_adapter(*model, 6, 4)};
    LoadOptions options = small_options();
    options.threads = threads;
    const auto loaded = std::move(*LoadedModel::create(std::move(model), weights.views, options, adapters));
    Engine& engine = loaded->engine();
    const auto counter = std::make_shared<Counter>();
    for (int i = 0; i < 6; ++i) {
      Request r = of_tokens(6 + i, 90, static_cast<std::uint64_t>(i), counter);
      r.adapter = i % 3 - 1;
      ASSERT_TRUE(engine.submit(std::move(r)));
    }
    for (int i = 0; i < 12; ++i) engine.step();
    const std::int64_t before = counter->tokens;
    expect_steady(engine, 40, threads);
    EXPECT_EQ(counter->tokens - before, 6 * 40);
    while (engine.step()) {
    }
  }
}

TEST(SteadySteps, OfGuessesToo) {
  if (!QW_COUNTS) GTEST_SKIP() << "allocations are counted without sanitizers only";
  for (const int threads : {1, 2}) {
    LoadOptions options = small_options();
    options.threads = threads;
    options.engine.drafts.lookup = true;
    options.engine.drafts.adaptive = false;
    options.engine.drafts.most = 2;  // so that nobody ends before that is counted
    const auto loaded = load("qwen3", tensor::DType::kQ8_0, options);
    Engine& engine = loaded->engine();
    const auto counter = std::make_shared<Counter>();
    for (std::uint64_t i = 0; i < 3; ++i) {
      Request r = of_tokens(0, 100, i, counter);
      for (int t = 0; t < 24; ++t) r.prompt.push_back(t % 4 + static_cast<TokenId>(i));  // something to look up
      r.params.temperature = 0;
      ASSERT_TRUE(engine.submit(std::move(r)));
    }
    for (int i = 0; i < 20; ++i) engine.step();  // what is kept of a request is made with its first guesses
    const std::int64_t before = engine.stats().drafted_tokens;
    expect_steady(engine, 10, threads);
    EXPECT_GT(engine.stats().drafted_tokens, before);
    while (engine.step()) {
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SteadyStep, testing::Values("qwen3", "qwen3_moe", "qwen3_next", "qwen4_exp_text"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace qw::engine
