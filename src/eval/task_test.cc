#include "eval/task.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "eval/builtin.h"
#include "eval/compare.h"
#include "eval/example.h"
#include "eval/items.h"
#include "eval/run.h"
#include "eval/sandbox.h"

namespace qw::eval {
namespace {

constexpr std::string_view kChoiceTask = R"(kind = "choice"
measures = ["acc", "acc_norm", "acc_bytes", "acc_tokens"]
[data]
items = ["items.jsonl"]
[prompt]
context = "Q: {{ q }}\n"
choice_list = "{{ c|tojson }}"
answer = "{{ a }}"
)";

Task task_of(std::string_view text) {
  auto task = parse_task(text, "mine.toml");
  EXPECT_TRUE(task) << (task ? "" : task.error().message);
  return std::move(*task);
}

std::string error_of(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  const auto task = parse_task(text, "mine.toml");
  return task ? "" : task.error().message;
}

Item item_of(std::string_view json) { return {json::parse(json)->as_object(), "", "items.jsonl:1"}; }

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "qianwen-eval-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(TaskFile, ErrorsNameLineAndKey) {
  const std::string good(kChoiceTask);
  EXPECT_EQ(error_of(good, "\"choice\"", "\"choices\""),
            "mine.toml:1: kind must be one of: choice, likelihood, perplexity, generate");
  EXPECT_EQ(
      error_of(good, "acc_tokens", "acck").rfind("mine.toml:2: measures of kind 'choice' may be acc, acc_norm, ", 0),
      0u);
  EXPECT_EQ(error_of(good, "items =", "item ="), "mine.toml:3: data.items must name the file of the items");
  EXPECT_EQ(error_of(good, "items.jsonl", "../items.jsonl"),
            "mine.toml:4: data.items '../items.jsonl' must name a file below the data folder");
  EXPECT_EQ(
      error_of(good, "{{ q }}", "{{ q ").rfind("mine.toml:6: prompt.context is no template: chat template line ", 0),
      0u);
  EXPECT_EQ(error_of(good, "answer", "anwser"), "mine.toml:8: prompt.anwser is no key of this file");
  EXPECT_EQ(error_of(good, "answer = \"{{ a }}\"", ""),
            "mine.toml:5: prompt.answer is missing, which a task of kind 'choice' needs");
  EXPECT_EQ(error_of(good, "choice_list", "target"),
            "mine.toml:5: prompt.choices is missing, which a task of kind 'choice' needs");
  EXPECT_EQ(error_of(good + "[[rewrite]]\npattern = 'a('\n", "Q", "Q")
                .rfind("mine.toml:10: rewrite[0].pattern 'a(': the expression is wrong", 0),
            0u);
  EXPECT_EQ(error_of(good, "[data]", "[data").rfind("mine.toml:3: ", 0), 0u);
  EXPECT_EQ(error_of(good + "[[measure]]\nmetric = 'exact_match'\n", "Q", "Q"),
            "mine.toml:9: measure goes with kind 'generate'");
}

TEST(TaskFile, ThoseThatComeAlongAreAllFilesOfTheFolderAndParse) {
  std::set<std::string> files, names;
  for (const auto& entry : std::filesystem::directory_iterator(QW_SOURCE_DIR "/src/eval/tasks"))
    files.insert(entry.path().stem().string());
  for (const std::string_view name : builtin_tasks()) {
    names.emplace(name);
    const auto task = builtin_task(name);
    ASSERT_TRUE(task) << task.error().message;
    EXPECT_EQ(task->name, name);
    EXPECT_FALSE(task->title.empty());
  }
  EXPECT_EQ(files, names);
  EXPECT_EQ(builtin_task("nothing").error().kind, ErrorKind::kUsage);
}

TEST(Items, FormsOfFiles) {
  DataSpec spec;
  spec.columns = {"question", "A"};
  const auto csv = parse_items("question,choice0\nq,x\n", "f.csv", spec);
  ASSERT_TRUE(csv);
  ASSERT_EQ(csv->size(), 1u);
  EXPECT_EQ((*csv)[0].where, "f.csv:2");
  EXPECT_EQ(json::dump((*csv)[0].fields), R"({"question": "q", "A": "x"})");
  EXPECT_EQ(parse_items("q,x,z\n", "f.csv", spec).error().message, "f.csv:1: 3 fields, expected 2");
  EXPECT_EQ(parse_items("{}\n[1]\n", "f.jsonl", {}).error().message, "f.jsonl:2: expected an object");
  const auto squad = parse_items(R"({"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [
      {"question": "q", "id": 1, "answers": [{"text": "x"}, {"text": "x"}, {"text": "y"}]}]}]}]})",
                                 "f.json", {});
  ASSERT_TRUE(squad);
  EXPECT_EQ(json::dump((*squad)[0].fields),
            R"({"title": "t", "context": "c", "question": "q", "id": 1, "answers": ["x", "y"]})");
  DataSpec headings;
  headings.documents = Documents::kHeading;
  const auto articles = parse_items(" \n = A = \n x \n = = B = = \n y \n = C = \n z", "f.txt", headings);
  ASSERT_TRUE(articles);
  ASSERT_EQ(articles->size(), 2u);
  EXPECT_EQ((*articles)[1].where, "f.txt:6");
  EXPECT_EQ(parse_items("", "f.parquet", {}).error().kind, ErrorKind::kBadInput);
}

TEST(Wording, PromptsAndShots) {
  Task task = task_of(kChoiceTask);
  const auto one = word(task, item_of(R"({"q": "x", "c": ["yes", "no"], "a": "no"})"));
  const auto two = word(task, item_of(R"({"q": "y", "c": ["yes", "no"], "a": 0})"));
  ASSERT_TRUE(one && two);
  EXPECT_EQ(one->answer, 1u);
  const Example* const shots[] = {&*one};
  EXPECT_EQ(prompts_of(task, *two, shots, false)[0].text, "Q: x\n no\n\nQ: y\n");
  EXPECT_EQ(
      json::dump(prompts_of(task, *two, shots, true)[0].messages),
      R"([{"role": "user", "content": "Q: x\n"}, {"role": "assistant", "content": "no"}, {"role": "user", "content": "Q: y\n"}])");
  EXPECT_EQ(word(task, item_of(R"({"q": "x", "c": ["a"], "a": 1})")).error().message,
            "items.jsonl:1: the answer '1' is none of the 1 choices");
  EXPECT_EQ(word(task, item_of(R"({"q": "x", "c": [], "a": 0})")).error().message, "items.jsonl:1: has 0 choices");
}

// The published forms of a task's items become the same prompts.
TEST(Wording, FormsOfArc) {
  const auto task = builtin_task("arc_easy");
  ASSERT_TRUE(task);
  for (
      const char* item :
      {R"({"query": "Question: Why?\n", "choices": ["a", "b"], "gold": 1})",
       R"({"question": {"stem": "Why?", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]}, "answerKey": "2"})",
       R"({"question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"})"}) {
    const auto example = word(*task, item_of(item));
    ASSERT_TRUE(example) << example.error().message;
    EXPECT_EQ(example->contexts[0], "Question: Why?\nAnswer:");
    EXPECT_EQ(example->choices, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(example->answer, 1u);
  }
}

TEST(Wording, ChineseSubjectsHaveTheirChineseNames) {
  Item item = item_of(R"({"question": " q ", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "C", "Question": "q", "Answer": "C"})");
  item.group = "computer_network";
  const auto ceval = word(*builtin_task("ceval"), item);
  ASSERT_TRUE(ceval) << ceval.error().message;
  EXPECT_EQ(ceval->description, "以下是中国关于计算机网络的单项选择题，请选出其中的正确答案。\n\n");
  EXPECT_EQ(ceval->contexts[0], "q\nA. 1\nB. 2\nC. 3\nD. 4\n答案：");
  EXPECT_EQ(ceval->answer, 2u);
  item.group = "something_new";
  const auto cmmlu = word(*builtin_task("cmmlu"), item);
  ASSERT_TRUE(cmmlu) << cmmlu.error().message;
  EXPECT_EQ(cmmlu->description, "以下是关于something new的单项选择题，请直接给出正确答案的选项。\n\n");
}

TEST(Wording, ContextsOfWinograndeAndHellaswagsMarks) {
  const auto winogrande = word(
      *builtin_task("winogrande"),
      item_of(R"({"sentence": "Ann met Eve as _ was late. ", "option1": "Ann", "option2": "Eve", "answer": "2"})"));
  ASSERT_TRUE(winogrande) << winogrande.error().message;
  EXPECT_EQ(winogrande->contexts, (std::vector<std::string>{"Ann met Eve as Ann", "Ann met Eve as Eve"}));
  EXPECT_EQ(winogrande->choices, (std::vector<std::string>{"was late."}));
  EXPECT_EQ(winogrande->answer, 1u);
  const auto hellaswag = word(
      *builtin_task("hellaswag"),
      item_of(
          R"({"activity_label": "Tea", "ctx_a": "[header] How [title] Boil.", "ctx_b": "then HE", "endings": [" pours [step]  it. ", "b"], "label": 0})"));
  ASSERT_TRUE(hellaswag) << hellaswag.error().message;
  EXPECT_EQ(hellaswag->contexts[0], "Tea: How. Boil. Then he");  // lm-evaluation-harness's preprocess()
  EXPECT_EQ(hellaswag->choices[0], "pours  it.");
}

// Likes the choice that stands first, and writes what it is told.
class Scripted final : public Subject {
 public:
  std::map<std::string, Likelihood> by_continuation;
  std::string answer;
  Result<std::vector<Likelihood>> likelihoods(std::span<const Pair> pairs, const Progress&) override {
    std::vector<Likelihood> out;
    for (const Pair& p : pairs) out.push_back(by_continuation.at(p.continuation));
    return out;
  }
  Result<std::vector<Likelihood>> texts(std::span<const std::string> texts, const Progress&) override {
    std::vector<Likelihood> out;
    for (const std::string& t : texts) out.push_back({-std::log(2.0) * static_cast<double>(t.size()), false, 1});
    return out;
  }
  Result<std::vector<std::string>> answers(std::span<const Question> questions, const Progress&) override {
    return std::vector<std::string>(questions.size(), answer);
  }
  Result<std::string> shown(const Prompt& p) override { return p.text; }
};

TEST(Run, ChoicesByEveryNorm) {
  const Folder folder;
  folder.write("items.jsonl", R"({"q": "x", "c": ["ab", "长长", "a b c d e f g h"], "a": 0})"
                              "\n"
                              R"({"q": "y", "c": ["ab", "长长", "a b c d e f g h"], "a": 1})"
                              "\n");
  Scripted subject;
  subject.by_continuation = {
      {" ab", {-2, false, 1}}, {" 长长", {-2.2, true, 3}}, {" a b c d e f g h", {-12.5, false, 8}}};
  // Sums: ab. By characters: -1, -1.1, -0.83. By bytes: -1, -0.37, -0.83. By tokens: -2, -0.73, -1.56.
  RunOptions options;
  options.data = folder.path();
  const auto result = run_task(task_of(kChoiceTask), subject, options);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->samples[0].values, (std::vector<double>{1, 0, 0, 0}));
  EXPECT_EQ(result->samples[1].values, (std::vector<double>{0, 0, 1, 1}));
  EXPECT_EQ(result->measures[0].estimate.value, 0.5);
  EXPECT_NE(result->samples[0].digest, result->samples[1].digest);
}

TEST(Run, GroupsShotsAndLimits) {
  const Folder folder;
  for (const char* group : {"a", "b"}) {
    folder.write(std::string("test/") + group + ".csv", "x,1\ny,2\nz,1\n");
    folder.write(std::string("dev/") + group + ".csv", std::string("shot ") + group + ",2\n");
  }
  Task task = task_of(R"(kind = "choice"
measures = ["acc"]
[data]
items = ["test/*.csv"]
shots = ["dev/*.csv"]
columns = ["q", "a"]
[prompt]
description = "About {{ subject }}.\n"
context = "{{ q }}"
choices = ["A", "B"]
labels = ["1", "2"]
answer = "{{ a }}"
[shots]
count = 1
)");
  Scripted subject;
  subject.by_continuation = {{" A", {-1, true, 1}}, {" B", {-2, false, 1}}};
  RunOptions options;
  options.data = folder.path();
  options.limit = 2;
  const auto result = run_task(task, subject, options);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->items, 4);
  EXPECT_EQ(result->measures[0].estimate.value, 0.5);
  ASSERT_EQ(result->groups.size(), 2u);
  EXPECT_EQ(result->samples[3].id, "b/1");
  EXPECT_EQ(result->samples[3].record.find("prompt")->as_string(), "About b.\nshot b B\n\ny");
  options.shots = 2;
  EXPECT_EQ(run_task(task, subject, options).error().kind, ErrorKind::kBadInput);
  options.data = folder.path() / "dev";
  EXPECT_EQ(run_task(task, subject, options).error().message,
            "mine: no items in " + options.data.string() + ": expected test/*.csv");
}

TEST(Run, PerplexityOfBytesAndWords) {
  const Folder folder;
  folder.write("text.txt", "ab cd");
  Scripted subject;
  RunOptions options;
  options.data = folder.path();
  const auto result = run_task(*builtin_task("text"), subject, options);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_DOUBLE_EQ(result->measures[0].estimate.value, std::exp2(2.5));  // 5 bits over two words
  EXPECT_DOUBLE_EQ(result->measures[1].estimate.value, 2);
  EXPECT_DOUBLE_EQ(result->measures[2].estimate.value, 1);
}

TEST(Run, AnswersAndPrograms) {
  const Folder folder;
  folder.write("gsm8k/test.jsonl", R"({"question": "2+2?", "answer": "four\n#### 4"})"
                                   "\n");
  folder.write("HumanEval.jsonl",
               R"({"prompt": "def f():\n", "entry_point": "f", "test": "def check(g):\n    assert g() == 4"})"
               "\n");
  Scripted subject;
  subject.answer = "It is 4.";
  RunOptions options;
  options.data = folder.path();
  options.shots = 0;
  const auto result = run_task(*builtin_task("gsm8k"), subject, options);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->samples[0].values, (std::vector<double>{0, 1}));
  EXPECT_EQ(run_task(*builtin_task("humaneval"), subject, options).error().kind, ErrorKind::kRefused);
  options.run_code = true;
  if (const auto able = run_python("pass"); !able) GTEST_SKIP() << able.error().message;
  subject.answer = "    return 4";
  EXPECT_EQ(run_task(*builtin_task("humaneval"), subject, options)->measures[0].estimate.value, 1);
  subject.answer = "    return 5";
  EXPECT_EQ(run_task(*builtin_task("humaneval"), subject, options)->measures[0].estimate.value, 0);
}

TEST(Sandbox, ProgramsAreKeptIn) {
  if (const auto able = run_python("pass"); !able) GTEST_SKIP() << able.error().message;
  EXPECT_TRUE(run_python("open('/tmp/x', 'w').write('x')")->passed);
  const auto says = [](std::string_view program) {
    const auto out = run_python(program);
    return out && !out->passed ? out->output : "passed";
  };
  EXPECT_NE(says("import socket\nsocket.create_connection(('127.0.0.1', 80), 1)").find("unreachable"),
            std::string::npos);
  EXPECT_NE(says("open('/etc/x', 'w')").find("Read-only"), std::string::npos);
  EXPECT_NE(says("import os\nwhile True: os.fork()").find("unavailable"), std::string::npos);
  EXPECT_NE(says("x = bytearray(4 << 30)").find("MemoryError"), std::string::npos);
  EXPECT_EQ(says("import os\nassert not os.listdir('/proc')\nraise SystemExit(3)"), "");
  ProgramLimits brief;
  brief.time = std::chrono::milliseconds(200);
  const auto endless = run_python("while True: pass", brief);
  ASSERT_TRUE(endless);
  EXPECT_TRUE(endless->timed_out && !endless->passed);
}

TEST(Compare, MatchesQuestions) {
  const std::string a = R"({"task": "t", "id": "0", "digest": "x", "values": {"acc": 1}})"
                        "\n"
                        R"({"task": "t", "id": "1", "digest": "y", "values": {"acc": 0}})"
                        "\n";
  const auto left = parse_samples(a, "a");
  auto right = parse_samples(a, "b");
  ASSERT_TRUE(left && right);
  (*right)[1].find("values")->as_object().set("acc", 1);
  const auto compared = compare_samples(*left, *right);
  ASSERT_TRUE(compared) << compared.error().message;
  EXPECT_EQ((*compared)[0].better, (std::vector<std::string>{"1"}));
  EXPECT_DOUBLE_EQ((*compared)[0].paired.difference, 0.5);
  (*right)[1].set("digest", "z");
  EXPECT_EQ(compare_samples(*left, *right).error().kind, ErrorKind::kBadInput);
  EXPECT_EQ(parse_samples("{}", "a.jsonl").error().message, "a.jsonl:1: is no sample: it lacks task or id");
}

}  // namespace
}  // namespace qw::eval
