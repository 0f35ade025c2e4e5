#include "data/document_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/utf8.h"
#include "data/byte_reader.h"
#include "data/clean_text.h"
#include "data/internal/test_files.h"

namespace qw::data {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class ReaderTest : public test::DataTest {};

Result<std::string> read_all(const fs::path& path) {
  QW_ASSIGN(auto reader, ByteReader::open(path));
  std::string text;
  char block[1000];
  for (;;) {
    QW_ASSIGN(const std::size_t n, reader.read(block));
    if (n == 0) return text;
    text.append(block, n);
  }
}

Result<std::vector<Document>> documents(const fs::path& path, const ReaderOptions& options, ReaderCounts* counts = nullptr) {
  QW_ASSIGN(auto reader, DocumentReader::open(path, options));
  std::vector<Document> out;
  for (;;) {
    Document document;
    QW_ASSIGN(const bool more, reader.next(document));
    if (!more) break;
    out.push_back(std::move(document));
  }
  if (counts != nullptr) *counts = reader.counts();
  return out;
}

std::vector<std::string> texts(const std::vector<Document>& documents) {
  std::vector<std::string> out;
  for (const auto& d : documents) out.push_back(d.text);
  return out;
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

TEST_F(ReaderTest, ZstdIsUnpackedOrRefusedByName) {
  using namespace std::string_view_literals;
  // "one\n\ntwo\n" as the zstd program packs it, with a check sum
  const std::string frame("\x28\xb5\x2f\xfd\x04\x58\x49\x00\x00" "one\n\ntwo\n" "\x93\xf2\x49\xde"sv);
  const auto text = read_all(write("a.txt.zst", frame + frame));
#ifdef QW_HAVE_ZSTD
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, "one\n\ntwo\none\n\ntwo\n");
  std::string damaged = frame;
  damaged[10] ^= 1;
  for (const std::string& bad : {frame.substr(0, 15), frame + frame.substr(0, 4), damaged, frame + "x"}) {
    const auto none = read_all(write("bad", bad));
    ASSERT_FALSE(none) << bad.size();
    EXPECT_THAT(none.error().message, HasSubstr("bad: zstd data is "));
  }
#else
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().message, HasSubstr("a.txt.zst: a file of zstd, which is not read: this build"));
#endif
}

TEST_F(ReaderTest, FilesThatAreNoTextAreRefusedWithAdvice) {
  using namespace std::string_view_literals;
  const auto refused = [&](std::string_view head) {
    const auto text = read_all(write("rows", head));
    return text ? "read: " + *text : text.error().message;
  };
  EXPECT_THAT(refused("PAR1\x15\x04\x15 PAR1"sv), HasSubstr("rows: a file of Parquet, which is not read: write its rows as JSON lines first"));
  EXPECT_THAT(refused("PK\x03\x04\x14"sv), HasSubstr("a file of zip"));
  EXPECT_THAT(refused("BZh91AY&SY\x01"sv), HasSubstr("a file of bzip2"));
  EXPECT_EQ(refused("PAR1 is a word"), "read: PAR1 is a word");
}

TEST_F(ReaderTest, PlainAndPackedFilesReadTheSame) {
  std::string text;
  for (int i = 0; i < 50000; ++i) text += std::to_string(i * 7919) + "\n";
  const auto plain = read_all(write("a.txt", text)), packed = read_all(write_xz("b.dat", text));
  ASSERT_TRUE(plain && packed);
  EXPECT_EQ(*plain, text);
  EXPECT_EQ(*packed, text);
}

TEST_F(ReaderTest, DamagedXzIsAnErrorAtEveryCut) {
  const auto path = write_xz("a.xz", std::string(20000, 'x') + "end");
  const auto whole = *base::read_file(path);
  for (std::size_t n = 6; n < whole.size(); n += 3) {
    const auto result = read_all(write("cut.xz", whole.substr(0, n)));
    ASSERT_FALSE(result) << n;
    EXPECT_THAT(result.error().message, HasSubstr("cut.xz: "));
    EXPECT_EQ(result.error().kind, ErrorKind::kBadInput);
  }
  auto flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x40);
  EXPECT_FALSE(read_all(write("flip.xz", flipped)));
}

TEST_F(ReaderTest, PagesAreTheirText) {
  ReaderOptions options;
  options.format = SourceFormat::kHtml;
  write("page.html", R"(<!DOCTYPE html><html><head><title>no</title></head><body class="a>b">
<nav><ul><li>menu<nav>inner</nav></li></ul></nav><h1>A  &amp; B</h1>
<script>if (1 < 2) document.write("<p>no</p>")</script><!-- no <p> -->
<p>one <b>two</b>three &lt;x&gt; &#x6708;&#20142;&bogus;</p><p>next<br/>line</p><pre>a  b
  c</pre><table><tr><td>x</td><td>y</td></tr></table>1 < 2</body></html>)");
  EXPECT_THAT(texts(*documents(folder_ / "page.html", options)),
              ElementsAre("A & B\n\none twothree <x> 月亮&bogus;\n\nnext\nline\n\na  b\n  c\n\nx y\n\n1 < 2"));
  write("empty.html", "<p><script>x");
  EXPECT_TRUE(documents(folder_ / "empty.html", options)->empty());
  options.format = SourceFormat::kMarkdown;
  write("page.md", "---\ntitle: no\n---\n\n# Head\n<!-- no -->\n\ntext\n");
  EXPECT_THAT(texts(*documents(folder_ / "page.md", options)), ElementsAre("# Head\n\n\ntext"));
}

TEST_F(ReaderTest, TablesAreOneOfTheirColumns) {
  ReaderOptions options;
  options.format = SourceFormat::kCsv;
  write("table.csv", "id,text\n1,\"two\nlines, and \"\"quotes\"\"\"\r\n2,short\n3,\n");
  ReaderCounts counts;
  const auto read = *documents(folder_ / "table.csv", options, &counts);
  EXPECT_THAT(texts(read), ElementsAre("two\nlines, and \"quotes\"", "short"));
  EXPECT_EQ(read[1].line, 4u);
  EXPECT_EQ(counts.empty, 1u);
  options.text_field = "words";
  EXPECT_THAT(documents(folder_ / "table.csv", options).error().message, HasSubstr("no column \"words\""));
  options.text_field = "text";
  write("row.csv", "id,text\n1\n");
  EXPECT_THAT(documents(folder_ / "row.csv", options).error().message, HasSubstr("a row without"));
}

TEST_F(ReaderTest, AbsentFileIsAnError) {
  EXPECT_FALSE(ByteReader::open(folder_ / "nothing"));
  EXPECT_FALSE(ByteReader::open(folder_));
}

// ---- documents --------------------------------------------------------------------------------------------------------

TEST_F(ReaderTest, BlankLinesEndDocuments) {
  const auto path = write("a.txt", "\xEF\xBB\xBF\r\none\r\ntwo\r\n\r\n \t\n\nthree\rfour\n\n\n");
  const auto found = documents(path, {});
  ASSERT_TRUE(found);
  EXPECT_THAT(texts(*found), ElementsAre("one\ntwo", "three\nfour"));
  EXPECT_EQ((*found)[0].line, 2u);
  EXPECT_EQ((*found)[1].line, 7u);
}

TEST_F(ReaderTest, LinesAndWholeFiles) {
  const auto path = write("a.txt", "ann\n\nbob\ncid");
  ReaderOptions options;
  options.separator = Separator::kLine;
  EXPECT_THAT(texts(*documents(path, options)), ElementsAre("ann", "bob", "cid"));
  options.separator = Separator::kFile;
  EXPECT_THAT(texts(*documents(path, options)), ElementsAre("ann\n\nbob\ncid"));
}

TEST_F(ReaderTest, LongDocumentsAreCutAtLinesElseAtCharacters) {
  ReaderOptions options;
  options.separator = Separator::kFile;
  options.max_document_bytes = 16;
  EXPECT_THAT(texts(*documents(write("a.txt", "0123456\n89\nabcdefgh\nx"), options)),
              ElementsAre("0123456\n89", "abcdefgh\nx"));
  const std::string han = "床前明月光疑是地上霜";  // 30 bytes without a line end
  const auto cut = texts(*documents(write("b.txt", han), options));
  std::string joined;
  for (const auto& part : cut) {
    EXPECT_LE(part.size(), 16u);
    EXPECT_TRUE(base::is_valid_utf8(part));
    joined += part;
  }
  EXPECT_EQ(joined, han);
}

TEST_F(ReaderTest, InvalidUtf8IsReplacedDroppedOrRefused) {
  const auto path = write("a.txt", "good\n\nb\xFF" "ad\xE5\xBA\n\nend\n");
  ReaderOptions options;
  ReaderCounts counts;
  EXPECT_THAT(texts(*documents(path, options, &counts)), ElementsAre("good", "b\xEF\xBF\xBD" "ad\xEF\xBF\xBD", "end"));
  EXPECT_EQ(counts.invalid_utf8, 2u);
  options.invalid_utf8 = InvalidUtf8::kDrop;
  EXPECT_THAT(texts(*documents(path, options, &counts)), ElementsAre("good", "end"));
  EXPECT_EQ(counts.invalid_utf8, 1u);
  options.invalid_utf8 = InvalidUtf8::kRefuse;
  const auto refused = documents(path, options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("a.txt:3: invalid UTF-8"));
}

TEST_F(ReaderTest, ReplacementFollowsTheMaximalSubpartRule) {
  // Python: b'...'.decode('utf-8', errors='replace') gives these counts of U+FFFD.
  const std::pair<std::string, std::uint64_t> cases[] = {
      {"\xF0\x9F\x98", 1}, {"\xED\xA0\x80", 3}, {"\xC0\xAF", 2}, {"\xE0\x80\xBF", 3}, {"\xF4\x90\x80\x80", 4}, {"\xF1\x80\x80" "A", 1}};
  for (auto [text, expected] : cases) EXPECT_EQ(replace_invalid_utf8(text), expected);
}

TEST_F(ReaderTest, JsonLinesGiveTextOrNameTheLine) {
  ReaderOptions options;
  options.format = SourceFormat::kJsonl;
  const auto good = documents(write("a.jsonl", "{\"text\":\"a\\r\\nb\"}\n\n{\"x\":1,\"text\":\"\\u5e8a\"}\n{\"text\":\"\"}\n"), options);
  ASSERT_TRUE(good);
  EXPECT_THAT(texts(*good), ElementsAre("a\nb", "床"));
  EXPECT_EQ((*good)[1].line, 3u);
  for (const char* bad : {"{\"text\":1}", "[]", "{\"text\":", "{}", "nonsense"}) {
    const auto result = documents(write("b.jsonl", "{\"text\":\"ok\"}\n" + std::string(bad) + "\n"), options);
    ASSERT_FALSE(result) << bad;
    EXPECT_THAT(result.error().message, HasSubstr("b.jsonl:2: "));
  }
}

TEST_F(ReaderTest, ChatLinesKeepMessagesAndTools) {
  ReaderOptions options;
  options.format = SourceFormat::kChat;
  const auto good = documents(
      write("a.jsonl", R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}],"tools":[{"a":1}]})"),
      options);
  ASSERT_TRUE(good);
  const auto& chat = (*good)[0].chat;
  EXPECT_EQ(chat.find("messages")->as_array()[1].find("content")->as_string(), "yo");
  EXPECT_NE(chat.find("tools"), nullptr);
  for (const char* bad : {R"({"messages":[]})", R"({"messages":[{"content":"x"}]})", R"({"messages":[{"role":"user"}]})", R"({"messages":3})"})
    EXPECT_FALSE(documents(write("b.jsonl", bad), options)) << bad;
}

TEST_F(ReaderTest, TraditionalBecomesSimplified) {
  auto simplifier = HanConverter::create(HanScript::kSimplified);
  if (!simplifier) GTEST_SKIP() << simplifier.error().message;
  EXPECT_EQ(simplifier->convert("秦川雄帝宅，函谷壯皇居。abc"), "秦川雄帝宅，函谷壮皇居。abc");
}

}  // namespace
}  // namespace qw::data
