#include "train/internal/references.h"

#include <array>

#include "train/internal/tensor_file.h"

namespace qw::train {
namespace {

constexpr const char* kFormat = "qianwen-references-2";

// A sum as the two floats that a file holds of it. Used when it was just computed too, so that a run that is resumed
// goes on with the same numbers.
std::array<float, 2> halves(double sum) {
  const auto high = static_cast<float>(sum);
  return {high, static_cast<float>(sum - static_cast<double>(high))};
}
double whole(float high, float low) { return static_cast<double>(high) + static_cast<double>(low); }

std::vector<float> split(const std::vector<double>& sums) {
  std::vector<float> out;
  for (const double sum : sums)
    for (const float half : halves(sum)) out.push_back(half);
  return out;
}

std::vector<double> joined(const std::vector<float>& halves_of) {
  std::vector<double> out;
  for (std::size_t i = 0; i < halves_of.size(); i += 2) out.push_back(whole(halves_of[i], halves_of[i + 1]));
  return out;
}

tensor::Shape shape_of(const std::vector<float>& halves_of) {
  return tensor::Shape{static_cast<std::int64_t>(halves_of.size() / 2), 2};
}

Result<std::vector<double>> read(const formats::Safetensors& file, const char* name) {
  QW_ASSIGN(const tensor::ConstView view, file.tensor(name));
  std::vector<float> out(static_cast<std::size_t>(view.shape.elements()));
  if (view.shape.rank() != 2 || view.shape[1] != 2)
    return fail(ErrorKind::kBadInput, file.path().string() + ": " + name + " is not a list of sums");
  QW_TRY(read_tensor(file, name, view.shape, out.data()));
  return joined(out);
}

// From the process that has read the file to the others.
Status hand_out(GradientSum& share, std::vector<double>& sums) {
  Communicator* const ranks = share.everyone();
  if (ranks == nullptr || ranks->size() == 1) return {};
  std::uint64_t n = sums.size();
  QW_TRY(ranks->broadcast(std::as_writable_bytes(std::span(&n, 1))));
  sums.resize(n);
  return ranks->broadcast(std::as_writable_bytes(std::span(sums)));
}

}  // namespace

Status References::find(const MethodContext& context, const Score& train, const Score& heldout) {
  if (known_) return {};
  const auto path = context.config.output / "references.safetensors";
  const json::Value ledger(context.dataset.ledger_sha256);
  if (context.step == 0) {
    QW_ASSIGN(const std::vector<double> of_train, train());
    QW_ASSIGN(const std::vector<double> of_heldout, heldout());
    const std::vector<float> a = split(of_train), b = split(of_heldout);
    if (context.share.leads()) {
      std::error_code code;
      std::filesystem::create_directories(context.config.output, code);
      std::vector<NamedTensor> tensors{{"train", shape_of(a), a.data()}};
      if (!b.empty()) tensors.push_back({"heldout", shape_of(b), b.data()});
      QW_TRY(write_tensors(path, tensors, {{"format", kFormat}, {"ledger_sha256", ledger}}));
    }
    train_ = joined(a);
    heldout_ = joined(b);
  } else if (context.share.leads()) {
    QW_ASSIGN(const auto file, formats::Safetensors::open(path));
    const json::Value *format = file.metadata().find("format"), *of = file.metadata().find("ledger_sha256");
    if (format == nullptr || *format != json::Value(kFormat) || of == nullptr || *of != ledger)
      return fail(ErrorKind::kUsage, path.string() + ": is not of these data");
    QW_ASSIGN(train_, read(file, "train"));
    if (!context.dataset.heldout.empty()) {
      QW_ASSIGN(heldout_, read(file, "heldout"));
    }
  }
  QW_TRY(hand_out(context.share, train_));
  QW_TRY(hand_out(context.share, heldout_));
  known_ = true;
  return {};
}

}  // namespace qw::train
