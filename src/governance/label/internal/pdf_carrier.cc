// PDF (ISO 32000): the information dictionary that the trailer names. By qpdf's C interface: its other headers do not
// compile with every compiler as C++20.
#include <qpdf/qpdf-c.h>

#include <memory>

#include "governance/label/internal/carrier.h"

namespace qw::governance::internal {
namespace {

constexpr const char* kInfo = "/Info";
constexpr const char* kLabel = "/AIGC";

struct Close {
  void operator()(qpdf_data pdf) const { qpdf_cleanup(&pdf); }
};
using Pdf = std::unique_ptr<_qpdf_data, Close>;

std::string one_line(const char* text) {
  std::string out = text == nullptr ? "" : text;
  for (char& c : out)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  return out;
}

tl::unexpected<Error> broken(const Pdf& pdf) {
  return fail(ErrorKind::kBadInput, "not a PDF that can be read: " +
                                        one_line(qpdf_get_error_message_detail(pdf.get(), qpdf_get_error(pdf.get()))));
}

// An opened file; what qpdf would mend silently is no file to label. The bytes must outlive it.
Result<Pdf> open(std::string_view file) {
  Pdf pdf(qpdf_init());
  if (pdf == nullptr) return fail(ErrorKind::kResource, "reading the PDF takes too much memory");
  qpdf_set_suppress_warnings(pdf.get(), QPDF_TRUE);
  qpdf_set_attempt_recovery(pdf.get(), QPDF_FALSE);
  qpdf_silence_errors(pdf.get());
  const QPDF_ERROR_CODE code = qpdf_read_memory(pdf.get(), "the file", file.data(), file.size(), nullptr);
  if ((code & QPDF_ERRORS) != 0) return broken(pdf);
  return pdf;
}

// What there was to say about the file so far; one of the warnings is that a dictionary has a key twice.
Status faults(const Pdf& pdf) {
  if (qpdf_has_error(pdf.get())) return broken(pdf);
  if (!qpdf_more_warnings(pdf.get())) return {};
  return fail(ErrorKind::kBadInput, "the PDF has faults: " + one_line(qpdf_get_error_message_detail(
                                                                 pdf.get(), qpdf_next_warning(pdf.get()))));
}

}  // namespace

Result<Carriers> read_pdf(std::string_view file) {
  QW_ASSIGN(const Pdf pdf, open(file));
  Carriers out;
  const qpdf_oh info = qpdf_oh_get_key(pdf.get(), qpdf_get_trailer(pdf.get()), kInfo);
  if (qpdf_oh_is_dictionary(pdf.get(), info) && qpdf_oh_has_key(pdf.get(), info, kLabel)) {
    const qpdf_oh value = qpdf_oh_get_key(pdf.get(), info, kLabel);
    std::size_t size = 0;
    const char* text = nullptr;
    if (qpdf_oh_is_string(pdf.get(), value)) text = qpdf_oh_get_binary_utf8_value(pdf.get(), value, &size);
    out.push_back(text != nullptr ? carrier_of_text({text, size}) : Carrier{{}, "AIGC is no text"});
  }
  QW_TRY(faults(pdf));
  return out;
}

Result<std::string> write_pdf(std::string_view file, const AigcLabel& label) {
  QW_ASSIGN(const Pdf opened, open(file));
  const qpdf_data pdf = opened.get();
  const qpdf_oh trailer = qpdf_get_trailer(pdf);
  qpdf_oh info = qpdf_oh_get_key(pdf, trailer, kInfo);
  if (!qpdf_oh_is_dictionary(pdf, info)) {
    info = qpdf_make_indirect_object(pdf, qpdf_oh_new_dictionary(pdf));
    qpdf_oh_replace_key(pdf, trailer, kInfo, info);
  }
  qpdf_oh_replace_key(pdf, info, kLabel, qpdf_oh_new_unicode_string(pdf, compact_json(label).c_str()));
  if ((qpdf_init_write_memory(pdf) & QPDF_ERRORS) != 0) return broken(opened);
  if (!qpdf_is_encrypted(pdf)) qpdf_set_deterministic_ID(pdf, QPDF_TRUE);
  if ((qpdf_write(pdf) & QPDF_ERRORS) != 0) return broken(opened);
  QW_TRY(faults(opened));
  return std::string(reinterpret_cast<const char*>(qpdf_get_buffer(pdf)), qpdf_get_buffer_length(pdf));
}

}  // namespace qw::governance::internal
