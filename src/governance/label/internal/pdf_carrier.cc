// PDF (ISO 32000): the information dictionary that the trailer names.
#define POINTERHOLDER_TRANSITION 4  // qpdf's headers ask which of its pointers is meant: std::shared_ptr

#include <exception>
#include <qpdf/Buffer.hh>
#include <qpdf/QPDF.hh>
#include <qpdf/QPDFWriter.hh>

#include "governance/label/internal/carrier.h"

namespace qw::governance::internal {
namespace {

constexpr const char* kInfo = "/Info";
constexpr const char* kLabel = "/AIGC";

// Opens a file; what qpdf would mend silently, is no file to label. The bytes must outlive it.
void open(QPDF& pdf, std::string_view file) {
  pdf.setSuppressWarnings(true);
  pdf.setAttemptRecovery(false);
  pdf.processMemoryFile("the file", file.data(), file.size());
}

template <class T, class Work>
Result<T> guarded(Work work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kResource, "reading the PDF takes too much memory");
  } catch (const std::exception& e) {
    std::string what = e.what();
    for (char& c : what)
      if (static_cast<unsigned char>(c) < ' ') c = ' ';
    return fail(ErrorKind::kBadInput, "not a PDF that can be read: " + what);
  }
}

}  // namespace

Result<Carriers> read_pdf(std::string_view file) {
  return guarded<Carriers>([&]() -> Result<Carriers> {
    QPDF pdf;
    open(pdf, file);
    Carriers out;
    QPDFObjectHandle info = pdf.getTrailer().getKey(kInfo);
    if (info.isDictionary() && info.hasKey(kLabel)) {
      QPDFObjectHandle value = info.getKey(kLabel);
      out.push_back(value.isString() ? carrier_of_text(value.getUTF8Value()) : Carrier{{}, "AIGC is no text"});
    }
    // One of them is that a dictionary has a key twice.
    if (const auto warnings = pdf.getWarnings(); !warnings.empty())
      return fail(ErrorKind::kBadInput, "the PDF has faults: " + warnings[0].getMessageDetail());
    return out;
  });
}

Result<std::string> write_pdf(std::string_view file, const AigcLabel& label) {
  return guarded<std::string>([&]() -> Result<std::string> {
    QPDF pdf;
    open(pdf, file);
    QPDFObjectHandle trailer = pdf.getTrailer();
    QPDFObjectHandle info = trailer.getKey(kInfo);
    if (!info.isDictionary()) {
      info = pdf.makeIndirectObject(QPDFObjectHandle::newDictionary());
      trailer.replaceKey(kInfo, info);
    }
    info.replaceKey(kLabel, QPDFObjectHandle::newUnicodeString(compact_json(label)));
    QPDFWriter writer(pdf);
    writer.setOutputMemory();
    if (!pdf.isEncrypted()) writer.setDeterministicID(true);
    writer.write();
    const auto bytes = writer.getBufferSharedPointer();
    return std::string(reinterpret_cast<const char*>(bytes->getBuffer()), bytes->getSize());
  });
}

}  // namespace qw::governance::internal
