#include "formats/resize_vocabulary.h"

#include <algorithm>

#include "base/file.h"
#include "tensor/blocks.h"

namespace qw::formats {
namespace {

using tensor::ConstView;

// The embedding has the first name in models since 1.5 and the second in the first generation; prefixes differ.
bool has_vocabulary_rows(const std::string& name) {
  for (const std::string_view end : {"embed_tokens.weight", "wte.weight", "lm_head.weight"}) {
    if (!name.ends_with(end)) continue;
    if (name.size() == end.size() || name[name.size() - end.size() - 1] == '.') return true;
  }
  return false;
}

tl::unexpected<Error> bad(const HfFolder& model, const std::string& what) {
  return fail(ErrorKind::kBadInput, model.path().string() + ": " + what);
}

// How many rows the embedding has, which all matrices by vocabulary must agree on.
Result<std::int64_t> old_rows(const HfFolder& model) {
  std::int64_t rows = -1;
  for (const TensorInfo& info : model.tensors()) {
    if (!has_vocabulary_rows(info.name)) continue;
    if (info.shape.rank() != 2) return bad(model, info.name + " is no matrix");
    if (tensor::is_quantised(info.dtype) || !tensor::can_encode(info.dtype)) {
      return bad(model, info.name + " is " + std::string(tensor::name(info.dtype)) + ", not a float format");
    }
    if (rows >= 0 && info.shape[0] != rows) {
      return bad(model, info.name + " has " + std::to_string(info.shape[0]) + " rows, another " + std::to_string(rows));
    }
    rows = info.shape[0];
  }
  if (rows < 0) return bad(model, "no embed_tokens.weight or wte.weight among the tensors");
  return rows;
}

Status check(const HfFolder& model, const VocabularyRows& plan, std::int64_t old) {
  std::int64_t next = old;  // the first row that nothing has been said of
  for (std::size_t i = 0; i < plan.fresh.size(); ++i) {
    const auto& fresh = plan.fresh[i];
    QW_CHECK(fresh.row >= 0 && fresh.row < plan.rows && !fresh.mean_of.empty());
    QW_CHECK(i == 0 || plan.fresh[i - 1].row < fresh.row);
    next += fresh.row == next;
    for (const std::int64_t row : fresh.mean_of) {
      if (row < 0 || row >= old) {
        return bad(model, "token " + std::to_string(row) + " has no row; the embedding has " + std::to_string(old));
      }
    }
  }
  if (next < plan.rows) return bad(model, "row " + std::to_string(next) + " would have no value");
  return {};
}

std::vector<std::byte> mean_row(const ConstView& view, const std::vector<std::int64_t>& rows) {
  const std::int64_t columns = view.shape[1], size = tensor::row_bytes(view.dtype, columns);
  std::vector<double> sum(static_cast<std::size_t>(columns));
  std::vector<float> row(sum.size());
  for (const std::int64_t r : rows) {
    tensor::decode_row(view.dtype, view.data + r * size, columns, row.data());
    for (std::size_t i = 0; i < row.size(); ++i) sum[i] += static_cast<double>(row[i]);
  }
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(sum[i] / static_cast<double>(rows.size()));
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  tensor::encode_row(view.dtype, row.data(), columns, bytes.data());
  return bytes;
}

Status write_matrix(const ConstView& view, const VocabularyRows& plan, SafetensorsFolderWriter& writer) {
  const std::int64_t size = tensor::row_bytes(view.dtype, view.shape[1]);
  const auto copy = [&](std::int64_t begin, std::int64_t end) -> Status {
    if (begin >= end) return {};
    return writer.append({view.data + begin * size, static_cast<std::size_t>((end - begin) * size)});
  };
  std::int64_t at = 0;
  const std::vector<std::int64_t>* done = nullptr;  // what `bytes` is the mean of: often all tokens, for every row
  std::vector<std::byte> bytes;
  for (const auto& fresh : plan.fresh) {
    QW_TRY(copy(at, std::min(fresh.row, view.shape[0])));
    if (done == nullptr || *done != fresh.mean_of) bytes = mean_row(view, fresh.mean_of);
    done = &fresh.mean_of;
    QW_TRY(writer.append(bytes));
    at = fresh.row + 1;
  }
  return copy(at, view.shape[0]);
}

json::Object resized_config(const HfFolder& model, std::int64_t old, std::int64_t rows) {
  json::Object config = model.config();
  const auto set = [&](json::Object& object) {
    const json::Value* size = object.find("vocab_size");
    if (size != nullptr && size->is_int() && size->as_int() == old) object.set("vocab_size", rows);
  };
  set(config);
  // Models that also see or hear keep the language model's shape in a part of its own.
  if (const json::Value* text = config.find("text_config"); text != nullptr && text->is_object()) {
    json::Object inner = text->as_object();
    set(inner);
    config.set("text_config", std::move(inner));
  }
  return config;
}

}  // namespace

Result<std::int64_t> write_resized_vocabulary(const HfFolder& model, const VocabularyRows& plan,
                                              const std::filesystem::path& out) {
  if (model.quantised() != nullptr) return bad(model, "quantised weights; give rows to the model they were made from");
  if (const auto unlisted = model.weights().first_unsupported()) return bad(model, *unlisted);
  QW_ASSIGN(const std::int64_t old, old_rows(model));
  QW_TRY(check(model, plan, old));
  const std::int64_t rows = std::max(old, plan.rows);
  std::vector<TensorInfo> infos = model.tensors();
  for (TensorInfo& info : infos) {
    if (has_vocabulary_rows(info.name)) info.shape = {rows, info.shape[1]};
  }
  // 5 GB shards, as transformers writes them.
  QW_ASSIGN(auto writer, SafetensorsFolderWriter::create(out, infos, std::uint64_t{5} << 30));
  for (const TensorInfo& info : infos) {
    QW_ASSIGN(const ConstView view, model.tensor(info.name));
    QW_TRY(has_vocabulary_rows(info.name) ? write_matrix(view, plan, writer) : writer.write(view));
  }
  QW_TRY(writer.commit());
  const std::string config = json::dump(resized_config(model, old, rows), {.indent = 2}) + "\n";
  QW_TRY(base::write_file_atomically(out / "config.json", config));
  return rows;
}

}  // namespace qw::formats
