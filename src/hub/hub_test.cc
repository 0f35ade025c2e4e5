#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hub/hub.h"
#include "hub/listing.h"
#include "hub/name.h"
#include "hub/select.h"

namespace qw::hub {
namespace {

using testing::HasSubstr;

TEST(ModelName, FormsPeopleUse) {
  const auto id = [](const char* text) {
    const auto name = parse_name(text);
    return name ? std::string(service_name(name->service)) + " " + name->id() + " " + name->pattern : name.error().message;
  };
  EXPECT_EQ(id("Qwen/Qwen3-0.6B"), "huggingface Qwen/Qwen3-0.6B ");
  EXPECT_EQ(id("hf:me/My_Model.v2"), "huggingface me/My_Model.v2 ");
  EXPECT_EQ(id("ms:Qwen/Qwen3-0.6B"), "modelscope Qwen/Qwen3-0.6B ");
  EXPECT_EQ(id("Qwen/Qwen3-0.6B-GGUF:q8_0"), "huggingface Qwen/Qwen3-0.6B-GGUF q8_0");
  EXPECT_EQ(id("qwen3-0.6b"), "huggingface Qwen/Qwen3-0.6B ");
  EXPECT_EQ(id("ms:qwen3-30b-a3b-instruct-2507-fp8"), "modelscope Qwen/Qwen3-30B-A3B-Instruct-2507-FP8 ");
  EXPECT_EQ(id("QWEN2.5-coder-7b-instruct-gptq-int4"), "huggingface Qwen/Qwen2.5-Coder-7B-Instruct-GPTQ-Int4 ");
  EXPECT_EQ(id("qwen1.5-moe-a2.7b-chat"), "huggingface Qwen/Qwen1.5-MoE-A2.7B-Chat ");
  EXPECT_EQ(id("qwen-1_8b-chat"), "huggingface Qwen/Qwen-1_8B-Chat ");
  EXPECT_EQ(id("qwen3-embedding-0.6b"), "huggingface Qwen/Qwen3-Embedding-0.6B ");
  EXPECT_EQ(id("qwq-32b-gguf:q4_k_m"), "huggingface Qwen/QwQ-32B-GGUF q4_k_m");
}

TEST(ModelName, OthersAreRefused) {
  for (const char* text : {"", "mini", "qwen3-", "llama-3-8b", "8b-qwen3", "a/b/c", "../x", "a/..", "a/.hidden", "-a/b", "a/b:", "a b/c",
                           "Qwen/Qwen3?x", "hf:", "ms:/", "a/b%2f"}) {
    const auto name = parse_name(text);
    ASSERT_FALSE(name.has_value()) << text;
    EXPECT_EQ(name.error().kind, ErrorKind::kUsage);
  }
}

TEST(Listing, HuggingFace) {
  const auto files = parse_huggingface_tree(
      R"([{"type":"directory","oid":"1","size":0,"path":"onnx"},
          {"type":"file","oid":"2","size":726,"path":"config.json"},
          {"type":"file","oid":"3","size":999,"lfs":{"oid":"b6c0f1b1a1a3d5cf3d5b4d37bdcbd01c3d4a8ca9a4d9a3c1d4d6cd7a7d9e1f00","size":1503300328,"pointerSize":135},"path":"model.safetensors","xetHash":"x"}])");
  ASSERT_TRUE(files.has_value()) << files.error().message;
  ASSERT_EQ(files->size(), 2u);
  EXPECT_EQ((*files)[0].bytes, 726u);
  EXPECT_EQ((*files)[0].sha256, "");
  EXPECT_EQ((*files)[1].bytes, 1503300328u);
  EXPECT_EQ((*files)[1].sha256.substr(0, 4), "b6c0");
}

TEST(Listing, ModelScope) {
  const auto files = parse_modelscope_files(
      R"({"Code":200,"Data":{"Files":[{"Path":"figures","Type":"tree","Size":0,"Sha256":""},
          {"Path":"config.json","Type":"blob","Size":726,"Sha256":"b6c0f1b1a1a3d5cf3d5b4d37bdcbd01c3d4a8ca9a4d9a3c1d4d6cd7a7d9e1f00"}]},"Success":true})");
  ASSERT_TRUE(files.has_value()) << files.error().message;
  ASSERT_EQ(files->size(), 1u);
  EXPECT_EQ((*files)[0].sha256.size(), 64u);
  const auto none = parse_modelscope_files(R"({"Code":10010205001,"Message":"record not found","Success":false})");
  EXPECT_THAT(none.error().message, HasSubstr("record not found"));
}

TEST(Listing, NonsenseAndPathsThatLeaveTheFolderAreRefused) {
  for (const char* path : {"../x", "a/../../x", "/etc/passwd", "a//b", "a/", "", ".", "a/.", "a\\\\b", "c:x", "a\\u0000b", "a\\nb"}) {
    const std::string entry = std::string("\"path\":\"") + path + "\",\"size\":1";
    const auto hf = parse_huggingface_tree("[{\"type\":\"file\"," + entry + "}]");
    ASSERT_FALSE(hf.has_value()) << path;
    EXPECT_THAT(hf.error().message, HasSubstr("refused"));
    const auto ms = parse_modelscope_files(std::string("{\"Data\":{\"Files\":[{\"Type\":\"blob\",\"Path\":\"") + path + "\",\"Size\":1}]}}");
    EXPECT_FALSE(ms.has_value()) << path;
  }
  for (const char* text : {"", "{}", "[1]", "[{\"path\":\"a\"}]", "[{\"path\":\"a\",\"size\":-1}]", "[{\"path\":\"a\",\"size\":1e30}]",
                           "[{\"path\":\"a\",\"size\":1},{\"path\":\"a\",\"size\":1}]", "[{\"path\":\"a\",\"size\":1,\"lfs\":{\"oid\":\"xyz\",\"size\":1}}]"})
    EXPECT_FALSE(parse_huggingface_tree(text).has_value()) << text;
}

TEST(Listing, NextPage) {
  EXPECT_EQ(next_page("<https://a/b?cursor=x>; rel=\"next\""), "https://a/b?cursor=x");
  EXPECT_EQ(next_page("<p>; rel=\"prev\", <n>; rel=\"next\""), "n");
  EXPECT_EQ(next_page(""), "");
  EXPECT_EQ(next_page("<a"), "");
}

std::string chosen(std::vector<std::string> paths, const std::string& pattern = "") {
  std::vector<RemoteFile> files;
  for (std::string& p : paths) files.push_back({std::move(p), 1, ""});
  const auto selection = select_files(files, pattern);
  if (!selection) return selection.error().message;
  std::string out;
  for (const RemoteFile& f : selection->files) out += (out.empty() ? "" : " ") + f.path;
  return out + (selection->gguf.empty() ? "" : " -> " + selection->gguf);
}

TEST(Select, SafetensorsAreTakenAndBinLeft) {
  EXPECT_EQ(chosen({"config.json", "pytorch_model.bin", "model.safetensors", "README.md", "tokenizer.json", "qwen.tiktoken", "onnx/model.onnx", "LICENSE", ".gitattributes"}),
            "model.safetensors config.json tokenizer.json qwen.tiktoken LICENSE");
  EXPECT_EQ(chosen({"config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                    "consolidated.safetensors"}),
            "model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json config.json");
  EXPECT_EQ(chosen({"config.json", "modules.json", "1_Pooling/config.json", "model.safetensors", "other/config.json"}),
            "model.safetensors config.json modules.json 1_Pooling/config.json");
}

TEST(Select, OnlyPickleIsRefusedByName) {
  EXPECT_THAT(chosen({"config.json", "pytorch_model.bin"}), HasSubstr("pytorch_model.bin: weights in PyTorch's pickle format are not read"));
  EXPECT_THAT(chosen({"consolidated.00.pth"}), HasSubstr("consolidated.00.pth"));
  EXPECT_THAT(chosen({"README.md"}), HasSubstr("no weights"));
}

TEST(Select, GgufByPart) {
  const std::vector<std::string> files{"m-q4_k.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-f16-00001-of-00002.gguf", "m-f16-00002-of-00002.gguf", "LICENSE"};
  EXPECT_EQ(chosen(files, "q8_0"), "m-Q8_0.gguf LICENSE -> m-Q8_0.gguf");
  EXPECT_EQ(chosen(files, "q4_k"), "m-q4_k.gguf LICENSE -> m-q4_k.gguf");
  EXPECT_EQ(chosen(files, "f16"), "m-f16-00001-of-00002.gguf m-f16-00002-of-00002.gguf LICENSE -> m-f16-00001-of-00002.gguf");
  EXPECT_EQ(chosen(files, "*Q8*"), "m-Q8_0.gguf LICENSE -> m-Q8_0.gguf");
  EXPECT_THAT(chosen(files, "q5"), HasSubstr("does not name one GGUF file"));
  EXPECT_THAT(chosen(files), HasSubstr("several GGUF files"));
  EXPECT_EQ(chosen({"only.gguf"}), "only.gguf -> only.gguf");
}

TEST(Hub, ATokenIsNotSentInTheClear) {
  HubOptions options;
  options.endpoint = "http://mirror.example";
  options.token = "secret-token";
  const auto hub = Hub::create(Service::kHuggingFace, options);
  ASSERT_FALSE(hub.has_value());
  EXPECT_EQ(hub.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(hub.error().message, testing::Not(HasSubstr("secret-token")));
}

}  // namespace
}  // namespace qw::hub
