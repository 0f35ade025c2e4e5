// tokenizer_speed FOLDER DOCUMENTS...: encodes the documents of a file whenever asked to, for timings that take turns
// with those of other programs (tokenizer_compare.py). A file of documents is, for each, its size in bytes (32 bits,
// little endian) and its bytes. Standard input: a line a pass, the number of a file. Standard output: for each pass a
// line with seconds of processor time, tokens and a hash (FNV-1a) of the ids; the hash is not in the time. The line
// "ids N" gives the ids of file N instead, a line a document, for tools/compare_tokenizer.py.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>

#include "base/file.h"
#include "tokenizer/tokenizer.h"

namespace qw {
namespace {

using tokenizer::TokenId;

Result<std::vector<std::string>> read_documents(const std::string& path) {
  QW_ASSIGN(const std::string bytes, base::read_file(path));
  std::vector<std::string> documents;
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint32_t size = 0;
    if (bytes.size() - at < sizeof size) return fail(ErrorKind::kBadInput, path + ": cut off");
    std::memcpy(&size, bytes.data() + at, sizeof size);
    at += sizeof size;
    if (bytes.size() - at < size) return fail(ErrorKind::kBadInput, path + ": cut off");
    documents.push_back(bytes.substr(at, size));
    at += size;
  }
  return documents;
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void pass(const tokenizer::Tokenizer& tokenizer, const std::vector<std::string>& documents) {
  std::vector<std::vector<TokenId>> ids(documents.size());
  const double start = cpu_seconds();
  for (std::size_t i = 0; i < documents.size(); ++i) ids[i] = tokenizer.encode(documents[i]);
  const double seconds = cpu_seconds() - start;
  std::uint64_t hash = 0xCBF29CE484222325u;
  std::size_t tokens = 0;
  for (const auto& list : ids) {
    tokens += list.size();
    for (const TokenId id : list) hash = (hash ^ static_cast<std::uint32_t>(id)) * 0x100000001B3u;
  }
  std::printf("%.9f %zu %llu\n", seconds, tokens, static_cast<unsigned long long>(hash));
  std::fflush(stdout);
}

void print_ids(const tokenizer::Tokenizer& tokenizer, const std::vector<std::string>& documents) {
  std::string line;
  for (const std::string& document : documents) {
    line.clear();
    for (const TokenId id : tokenizer.encode(document)) line += std::to_string(id) + ' ';
    std::puts(line.c_str());
  }
  std::fflush(stdout);
}

Status run(int argc, char** argv) {
  if (argc < 3) return fail(ErrorKind::kUsage, "usage: tokenizer_speed FOLDER DOCUMENTS...");
  QW_ASSIGN(auto spec, tokenizer::load_tokenizer_folder(argv[1]));
  QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  std::vector<std::vector<std::string>> files;
  for (int i = 2; i < argc; ++i) {
    QW_ASSIGN(auto documents, read_documents(argv[i]));
    files.push_back(std::move(documents));
  }
  for (std::string line; std::getline(std::cin, line);) {
    const bool ids = line.starts_with("ids ");
    const std::size_t number = std::strtoul(line.c_str() + (ids ? 4 : 0), nullptr, 10);
    if (number >= files.size()) return fail(ErrorKind::kUsage, "no file number " + line);
    if (ids)
      print_ids(tokenizer, files[number]);
    else
      pass(tokenizer, files[number]);
  }
  return {};
}

}  // namespace
}  // namespace qw

int main(int argc, char** argv) {
  const auto status = qw::run(argc, argv);
  if (!status) std::fprintf(stderr, "tokenizer_speed: %s\n", status.error().message.c_str());
  return status ? 0 : qw::exit_code(status.error().kind);
}
