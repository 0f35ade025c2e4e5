// What goes over the wire, protocol by protocol: the transcripts of tests/cases/<protocol>/*.case against a service
// over a model that says the alphabet. QW_UPDATE_CASES=1 writes the answers anew, for a look at what changed.
#include <cstdlib>
#include <filesystem>
#include <set>
#include <thread>

#include "api/internal/case_file.h"
#include "api/internal/test_accounts.h"
#include "api/internal/test_measure.h"
#include "api/keyword_moderator.h"
#include "api/routes.h"
#include "base/file.h"

namespace qw::api {
namespace {

using test::HttpAnswer;
using test::Transcript;

const std::filesystem::path kFolder = std::filesystem::path(QW_SOURCE_DIR) / "tests/cases";

std::vector<std::filesystem::path> case_files() {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kFolder))
    if (entry.path().extension() == ".case") out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

// Trains nothing, in three steps.
class Runner final : public openai::FineTuneRunner {
 public:
  Status check(const openai::FineTuneAsk&) const override { return {}; }
  Result<std::unique_ptr<openai::ExampleMeasure>> measure(const openai::FineTuneAsk&) const override {
    return std::unique_ptr<openai::ExampleMeasure>(std::make_unique<test::WordMeasure>());
  }
  Result<openai::FineTuneEstimate> estimate(const openai::FineTuneAsk&, const openai::ExampleMeasure&, store::Files&,
                                            const std::function<bool()>&) override {
    return test::ten_steps();
  }
  void forget(const std::string&) override {}
  Result<std::string> digest(const openai::FineTuneAsk&) const override { return std::string(); }
  Result<openai::FineTuneEnd> run(const openai::FineTuneAsk& ask, store::Files&, openai::FineTuneWatch& watch) override {
    // Called so, it waits the first time until somebody lays it aside.
    while (ask.name.find(":slow:") != std::string::npos && !laid_aside_) {
      QW_ASSIGN(const auto order, watch.go_on());
      if (order == openai::FineTuneOrder::kLeave) return openai::FineTuneEnd::kLeft;
      laid_aside_ = order == openai::FineTuneOrder::kPause;
      if (laid_aside_) return openai::FineTuneEnd::kPaused;
      ::usleep(1'000);
    }
    for (int step = 1; step <= 3; ++step) {
      watch.step({step, 3, 1.0 / step, std::nullopt, step * 8, {}, {}, {}, {}});
      QW_TRY(watch.go_on());
    }
    return openai::FineTuneEnd::kDone;
  }

 private:
  bool laid_aside_ = false;
};

class CasesTest : public test::AccountsServiceTest, public testing::WithParamInterface<std::filesystem::path> {
 protected:
  CasesTest() : thinking_(*chat::Template::parse("{{ messages[-1].content }}<think>\n")) {
    ServedModel served = *models_.find("alphabet");
    served.id = "thinker";
    served.thinks = true;
    served.chat_template = &thinking_;
    EXPECT_TRUE(models_.add(std::move(served)));
    words_ = std::move(*KeywordModerator::parse("[hate]\nvile\n"));
    const auto packs = std::filesystem::temp_directory_path() / ("qw-cases-" + std::to_string(::getpid()));
    std::filesystem::create_directories(packs);
    EXPECT_TRUE(base::write_file_atomically(packs / "words", "[blocked]\n0123456789\nforbiddenword\n[masked]\n56789\n"));
    auto profile = governance::Profile::parse(
        R"({"profile": "cases", "version": 1, "date": "2026-11-29",
            "keyword_packs": [{"file": "words", "action": "block", "categories": {"masked": "mask"}}]})");
    EXPECT_TRUE(profile.has_value());
    auto policy = governance::Policy::load(std::move(*profile), packs);
    EXPECT_TRUE(policy.has_value()) << policy.error().message;
    governed_.add("", std::move(*policy));
    std::filesystem::remove_all(packs);
  }
  ~CasesTest() override {  // before the runner, and what the engine's answers look at
    engine_->stop();
    service_.reset();
  }
  void SetUp() override {
    moderator_ = words_.get();
    marks_ = &keys_;
    if (GetParam().filename() == "guard.case") policies_ = &governed_;
    fine_tuning_.runner = &runner_;
    fine_tuning_.poll = fine_tuning_.flush = std::chrono::milliseconds(5);
    AccountsServiceTest::SetUp();
  }
  // One exchange; the answer's head without what every answer has, its body whole.
  HttpAnswer exchange(const Transcript& one) {
    std::string headers, body = test::with_variables(one.body, variables_);
    bool form = false, anonymous = false;
    for (const std::string& line : one.headers) {
      if (line == "Authorization: none") anonymous = true;
      if (line.find("multipart/form-data") != std::string::npos) form = true;
      if (line != "Authorization: none") headers += line + "\r\n";
    }
    if (!anonymous) headers += bearer(key_);
    if (form) {  // whose lines end in two characters
      std::string lines;
      for (const char c : body) lines += c == '\n' ? std::string("\r\n") : std::string(1, c);
      body = std::move(lines);
    }
    HttpAnswer answer = ask(one.method, test::with_variables(one.path, variables_), body, headers);
    if (answer.head.find("chunked") != std::string::npos) answer.body = test::dechunked(answer.body);
    return answer;
  }
  static std::string header(const HttpAnswer& answer, std::string_view name) {
    std::size_t at = answer.head.find("\r\n");
    while (at != std::string::npos) {
      at += 2;
      const auto end = std::min(answer.head.find("\r\n", at), answer.head.size());
      const std::string_view line(answer.head.data() + at, end - at);
      if (line.size() > name.size() + 1 && line[name.size()] == ':' &&
          std::equal(name.begin(), name.end(), line.begin(), [](char a, char b) { return (a | 0x20) == (b | 0x20); }))
        return std::string(line.substr(line.find_first_not_of(' ', name.size() + 1)));
      at = answer.head.find("\r\n", at);
    }
    return {};
  }
  void keep(const std::string& directive, const HttpAnswer& answer) {
    const auto equals = directive.find(" = ");
    const auto body = json::parse(answer.body);
    const json::Value* value = body ? &*body : nullptr;
    std::string path = directive.substr(equals + 3) + ".";
    for (std::size_t at = 0, dot; value != nullptr && (dot = path.find('.', at)) != std::string::npos; at = dot + 1)
      value = value->find(path.substr(at, dot - at));
    ASSERT_TRUE(value != nullptr && value->is_string()) << directive << " in " << answer.body;
    variables_[directive.substr(0, equals)] = value->as_string();
  }
  // Whether the answer is the last one wanted of a request that is repeated.
  static bool enough(const Transcript& one, const HttpAnswer& answer) {
    for (const auto& [name, text] : one.directives)
      if (name == "until" && answer.body.find(text) == std::string::npos) return false;
    return true;
  }

  chat::Template thinking_;
  Runner runner_;
  governance::PolicySet governed_;
  std::unique_ptr<KeywordModerator> words_;
  const governance::MarkKeyHolder keys_{*governance::MarkKeys::parse(
      R"({"watermark_keys": [{"id": "wm-1", "tenant": "", "scheme": "synthid", "hash": "siphash", "context": 4,
          "layers": 30, "leaves": 2, "created": 1, "retired": 0, "null": {"mean": 0.5, "variance": 0.0103},
          "secret": "0000000000000000000000000000000000000000000000000000000000000001"}]})")};
  test::Variables variables_;
};

// Headers that say what a protocol promises; those of every answer are in server's own tests.
constexpr const char* kTold[] = {"content-type",        "x-ignored-params", "allow",
                                 "content-disposition", "retry-after",      "www-authenticate"};

TEST_P(CasesTest, IsAnsweredAsWritten) {
  const bool update = std::getenv("QW_UPDATE_CASES") != nullptr;
  const std::string file = GetParam().string();
  auto cases = test::parse_cases(*base::read_file(file, 1 << 20), file);
  ASSERT_FALSE(cases.empty());
  for (Transcript& one : cases) {
    SCOPED_TRACE(GetParam().filename().string() + ": " + (one.comments.empty() ? "" : one.comments[0]) + "\n" +
                 one.method + " " + one.path + " " + one.body);
    HttpAnswer answer = exchange(one);
    for (int i = 0; i < 2000 && !enough(one, answer); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      answer = exchange(one);
    }
    if (update) {
      one.answer_headers.clear();
      for (const char* name : kTold)
        if (const std::string value = header(answer, name); !value.empty())
          one.answer_headers.push_back(std::string(name) + ": " + test::text_placeholders(value, variables_));
      one.status = answer.status;
      if (!test::difference(one.answer, answer.body, variables_).empty())
        one.answer = test::with_placeholders(answer.body, variables_);
    } else {
      EXPECT_EQ(answer.status, one.status) << answer.body;
      for (const std::string& line : one.answer_headers) {
        const auto colon = line.find(": ");
        EXPECT_TRUE(test::text_fits(test::with_variables(line.substr(colon + 2), variables_),
                                    header(answer, line.substr(0, colon))))
            << line << "\n"
            << answer.head;
      }
      const std::string different = test::difference(one.answer, answer.body, variables_);
      EXPECT_EQ(different, "") << answer.body;
    }
    for (const auto& [name, value] : one.directives)
      if (name == "keep") keep(value, answer);
  }
  if (update) {
    const std::string text = test::write_cases(cases);
    ASSERT_TRUE(base::write_file_atomically(file, text));
  }
}

std::string case_name(const testing::TestParamInfo<std::filesystem::path>& info) {
  std::string name = info.param.parent_path().filename().string() + "_" + info.param.stem().string();
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Protocols, CasesTest, testing::ValuesIn(case_files()), case_name);

// What the document says of answers is what they are.
TEST(Cases, AnswersHaveTheMembersOfTheDocument) {
  const json::Value document = openapi_document();
  int seen = 0;
  for (const auto& file : case_files()) {
    for (const Transcript& one : test::parse_cases(*base::read_file(file.string(), 1 << 20), file.string())) {
      const Route* route = route_at(one.method, one.path.substr(0, one.path.find('?')));
      const auto answer = json::parse(one.answer);
      if (one.status != 200 || route == nullptr || route->answers == Answers::kBytes || !answer) continue;
      std::string path, method;
      for (const char* c = route->path; *c != '\0'; ++c)
        if (*c != '*') path += *c;
      for (const char c : one.method) method += static_cast<char>(c | 0x20);
      const json::Value& content =
          *document.find("paths")->find(path)->find(method)->find("responses")->find("200")->find("content");
      const json::Value& schema = *content.find("application/json")->find("schema");
      const json::Value *properties = schema.find("properties"), *required = schema.find("required");
      if (properties == nullptr) continue;  // not listed
      SCOPED_TRACE(one.method + " " + one.path + " " + one.answer);
      for (const json::Value& name : required->as_array())
        EXPECT_NE(answer->find(name.as_string()), nullptr) << name.as_string();
      for (const auto& [name, value] : answer->as_object()) EXPECT_NE(properties->find(name), nullptr) << name;
      ++seen;
    }
  }
  EXPECT_GT(seen, 100);
}

// Every route has a transcript.
TEST(Cases, CoverEveryRoute) {
  std::set<std::pair<std::string, std::string>> asked;
  for (const auto& file : case_files())
    for (const Transcript& one : test::parse_cases(*base::read_file(file.string(), 1 << 20), file.string()))
      if (const Route* route = route_at(one.method, one.path.substr(0, one.path.find('?'))))
        if (one.status == 200) asked.emplace(route->method, route->path);
  for (const Route& route : routes()) {
    // Adapters need a desk that loads them (tests/e2e/adapters.sh); figures and the document have tests of their own.
    if (route.protocol == Protocol::kService) continue;
    EXPECT_TRUE(asked.contains({route.method, route.path})) << route.method << " " << route.path;
  }
}

}  // namespace
}  // namespace qw::api
