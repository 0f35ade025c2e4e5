// The first byte chooses a format. Any bytes are read to a verdict; what can be labelled has one label afterwards, and
// what is labelled twice keeps its producer.
#include "base/result.h"
#include "governance/label/label_file.h"
#include "governance/label/notice.h"
#include "governance/label/statement.h"
#include "governance/label/visible_label.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  using namespace qw::governance;
  if (size == 0) return 0;
  const auto format = static_cast<LabelFormat>(data[0] % 7);
  const std::string_view file(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto visible = with_visible_label(format, file, {notice_in("zh")});
  if (visible) QW_CHECK(*has_visible_label(format, *visible));
  const auto statement = ProvenanceStatement::read(file);
  if (statement && *statement) QW_CHECK((*statement)->text() == file);
  const auto checks = check_statements(format, file, {});
  if (checks)
    for (const StatementCheck& one : *checks) QW_CHECK(!one.fault.empty());  // none of no keys
  const LabelReport before = read_labels(format, file);
  AigcLabel label;
  label.producer = "producer";
  label.produce_id = "1";
  const auto once = with_label(format, file, label);
  if (!once) {
    QW_CHECK(!once.error().message.empty() && once.error().message.find('\n') == std::string::npos);
    return 0;
  }
  QW_CHECK(before.verdict == LabelVerdict::kCompliant || before.verdict == LabelVerdict::kNotFound);
  label.produce_id = "2";
  const auto twice = with_label(format, *once, label);
  QW_CHECK(twice.has_value());
  const LabelReport after = read_labels(format, *twice);
  QW_CHECK(after.verdict == LabelVerdict::kCompliant && after.labels.size() == 1 &&
           after.labels[0].propagate_id == "2");
  if (before.labels.empty()) QW_CHECK(after.labels[0].producer == "producer" && after.labels[0].produce_id == "1");
  return 0;
}
