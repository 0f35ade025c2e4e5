// PDF (ISO 32000): the information dictionary that the trailer names. By qpdf's C interface: its other headers do not
// compile with every compiler as C++20.
#include <qpdf/qpdf-c.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "base/utf8.h"
#include "governance/label/internal/carrier.h"
#include "governance/label/internal/mark_shape.h"
#include "governance/label/notice.h"

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

constexpr int kMostAncestors = 64;  // of a page, from whom it inherits

// What a page has by itself or from those above it.
qpdf_oh inherited(qpdf_data pdf, qpdf_oh page, const char* key) {
  for (int i = 0; i < kMostAncestors && qpdf_oh_is_dictionary(pdf, page); ++i) {
    if (qpdf_oh_has_key(pdf, page, key)) return qpdf_oh_get_key(pdf, page, key);
    page = qpdf_oh_get_key(pdf, page, "/Parent");
  }
  return qpdf_oh_new_null(pdf);
}

// How a page is seen: its corners, and how far it is turned (0, 90, 180 or 270 degrees clockwise).
struct PageView {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  int turned = 0;
  double shortest() const { return std::min(x1 - x0, y1 - y0); }
  // From the top left corner as it is seen: `right` and `down`.
  std::array<double, 2> at(double right, double down) const {
    if (turned == 90) return {x0 + down, y0 + right};
    if (turned == 180) return {x1 - right, y0 + down};
    if (turned == 270) return {x1 - down, y1 - right};
    return {x0 + right, y1 - down};
  }
};

Result<PageView> view_of(qpdf_data pdf, qpdf_oh page) {
  qpdf_oh box = inherited(pdf, page, "/CropBox");
  if (!qpdf_oh_is_array(pdf, box)) box = inherited(pdf, page, "/MediaBox");
  std::array<double, 4> n{};
  if (!qpdf_oh_is_array(pdf, box) || qpdf_oh_get_array_n_items(pdf, box) != 4)
    return fail(ErrorKind::kBadInput, "the PDF's first page has no size");
  for (int i = 0; i < 4; ++i)
    n[static_cast<std::size_t>(i)] = qpdf_oh_get_numeric_value(pdf, qpdf_oh_get_array_item(pdf, box, i));
  PageView out{std::min(n[0], n[2]), std::min(n[1], n[3]), std::max(n[0], n[2]), std::max(n[1], n[3])};
  if (!(out.shortest() >= 1 && out.shortest() < 1e6))
    return fail(ErrorKind::kBadInput, "the PDF's first page has no size");
  const qpdf_oh turn = inherited(pdf, page, "/Rotate");
  if (qpdf_oh_is_integer(pdf, turn)) out.turned = (qpdf_oh_get_int_value_as_int(pdf, turn) % 360 + 360) % 360;
  return out;
}

std::string number(double value) {
  std::string out = std::to_string(std::lround(value * 100));
  const bool negative = out.starts_with('-');
  if (negative) out.erase(0, 1);
  while (out.size() < 3) out.insert(0, "0");
  out.insert(out.size() - 2, ".");
  return negative ? "-" + out : out;
}

// UTF-16 with its mark in hexadecimal, as PDF writes texts.
std::string hexadecimal(std::string_view text) {
  std::string out = "FEFF";
  const auto unit = [&](std::uint32_t value) {
    constexpr const char* kDigits = "0123456789ABCDEF";
    for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[value >> shift & 15];
  };
  for (std::size_t at = 0; at < text.size();) {
    const auto c = base::utf8_at(text, at);
    at += c.size;
    if (c.code == base::kInvalidCode) continue;
    if (c.code < 0x10000) {
      unit(c.code);
    } else {
      unit(0xD800 + ((c.code - 0x10000) >> 10));
      unit(0xDC00 + ((c.code - 0x10000) & 0x3FF));
    }
  }
  return out;
}

constexpr std::string_view kSaid = "/ActualText <FEFF";

// The other way; what is no such text ends it.
std::string from_hexadecimal(std::string_view digits) {
  std::string out;
  std::uint32_t high = 0;
  for (std::size_t at = 0; at + 4 <= digits.size(); at += 4) {
    const std::string four(digits.substr(at, 4));
    if (four.find_first_not_of("0123456789ABCDEFabcdef") != std::string::npos) break;
    const auto unit = static_cast<std::uint32_t>(std::strtoul(four.c_str(), nullptr, 16));
    if (unit >= 0xD800 && unit < 0xDC00) {
      high = unit;
    } else if (unit >= 0xDC00 && unit < 0xE000) {
      if (high != 0) base::append_utf8(out, 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00));
      high = 0;
    } else {
      base::append_utf8(out, unit);
    }
  }
  return out;
}

constexpr double kShareOfPage = 0.03, kFewestPoints = 10;  // heights of a character: that of large print

std::string drawing(const PageView& view, const VisibleLabel& label) {
  const MarkShape shape = mark_shape(label.mark);
  const double height = std::max(kFewestPoints, kShareOfPage * view.shortest()), edge = 0.6 * height;
  std::string out = "\nQ\nq\n/Span <</ActualText <" + hexadecimal(label.notice) + ">>> BDC\n";
  const auto point = [&](double right, double down) {
    const auto [x, y] = view.at(edge + right * height, edge + down * height);
    out += number(x) + " " + number(y);
  };
  // A white ground, so that it is seen on whatever the page has there.
  out += "1 1 1 rg\n";
  const double w = shape.width + 0.3;
  const std::array<MarkPoint, 4> corners{{{-0.3, -0.3}, {w, -0.3}, {w, 1.3}, {-0.3, 1.3}}};
  for (std::size_t i = 0; i < corners.size(); ++i) {
    point(corners[i].x, corners[i].y);
    out += i == 0 ? " m\n" : " l\n";
  }
  out += "h f\n0 0 0 RG 1 J 1 j " + number(kMarkThickness * height) + " w\n";
  for (const MarkLine& line : shape.lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      point(line[i].x, line[i].y);
      out += i == 0 ? " m\n" : " l\n";
    }
    out += "S\n";
  }
  return out + "EMC\nQ\n";
}

Result<bool> says_so(const Pdf& pdf, qpdf_oh page) {
  unsigned char* bytes = nullptr;
  std::size_t size = 0;
  if ((qpdf_oh_get_page_content_data(pdf.get(), page, &bytes, &size) & QPDF_ERRORS) != 0) return broken(pdf);
  const std::unique_ptr<unsigned char, void (*)(void*)> frees(bytes, std::free);
  const std::string_view content(reinterpret_cast<const char*>(bytes), size);
  for (auto at = content.find(kSaid); at != content.npos; at = content.find(kSaid, at + 1)) {
    const std::string_view digits = content.substr(at + kSaid.size());
    const std::string text = from_hexadecimal(digits.substr(0, digits.find('>')));
    // The mark itself says so where the language of the notice has other words.
    for (const char* language : {"zh", "en", "it"})
      if (text == notice_in(language)) return true;
    if (has_explicit_words(text)) return true;
  }
  return false;
}

Result<qpdf_oh> first_page(const Pdf& pdf) {
  if (qpdf_get_num_pages(pdf.get()) < 1) {
    QW_TRY(faults(pdf));
    return fail(ErrorKind::kBadInput, "the PDF has no page");
  }
  return qpdf_get_page_n(pdf.get(), 0);
}

Result<std::string> written(const Pdf& pdf) {
  if ((qpdf_init_write_memory(pdf.get()) & QPDF_ERRORS) != 0) return broken(pdf);
  if (!qpdf_is_encrypted(pdf.get())) qpdf_set_deterministic_ID(pdf.get(), QPDF_TRUE);
  if ((qpdf_write(pdf.get()) & QPDF_ERRORS) != 0) return broken(pdf);
  QW_TRY(faults(pdf));
  return std::string(reinterpret_cast<const char*>(qpdf_get_buffer(pdf.get())), qpdf_get_buffer_length(pdf.get()));
}

qpdf_oh stream_of(const Pdf& pdf, const std::string& content) {
  const qpdf_oh out = qpdf_oh_new_stream(pdf.get());
  qpdf_oh_replace_stream_data(pdf.get(), out, reinterpret_cast<const unsigned char*>(content.data()), content.size(),
                              qpdf_oh_new_null(pdf.get()), qpdf_oh_new_null(pdf.get()));
  return out;
}

}  // namespace

Result<bool> has_pdf_mark(std::string_view file) {
  QW_ASSIGN(const Pdf pdf, open(file));
  QW_ASSIGN(const qpdf_oh page, first_page(pdf));
  QW_ASSIGN(const bool out, says_so(pdf, page));
  QW_TRY(faults(pdf));
  return out;
}

Result<std::string> with_pdf_mark(std::string_view file, const VisibleLabel& label) {
  QW_ASSIGN(const Pdf pdf, open(file));
  QW_ASSIGN(const qpdf_oh page, first_page(pdf));
  QW_ASSIGN(const bool there, says_so(pdf, page));
  if (there) return std::string(file);
  QW_ASSIGN(const PageView view, view_of(pdf.get(), page));
  // What the page has drawn so far cannot move or colour the mark: it stands between q and Q.
  const qpdf_oh contents = qpdf_oh_new_array(pdf.get());
  qpdf_oh_append_item(pdf.get(), contents, stream_of(pdf, "q\n"));
  const qpdf_oh before = qpdf_oh_get_key(pdf.get(), page, "/Contents");
  if (qpdf_oh_is_array(pdf.get(), before)) {
    for (int i = 0; i < qpdf_oh_get_array_n_items(pdf.get(), before); ++i)
      qpdf_oh_append_item(pdf.get(), contents, qpdf_oh_get_array_item(pdf.get(), before, i));
  } else if (qpdf_oh_is_stream(pdf.get(), before)) {
    qpdf_oh_append_item(pdf.get(), contents, before);
  }
  qpdf_oh_append_item(pdf.get(), contents, stream_of(pdf, drawing(view, label)));
  qpdf_oh_replace_key(pdf.get(), page, "/Contents", contents);
  return written(pdf);
}

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
  return written(opened);
}

}  // namespace qw::governance::internal
