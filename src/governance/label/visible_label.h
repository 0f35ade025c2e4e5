// What people see in a document or picture that says that it was generated (GB 45438-2025 section 5): words, or a mark.
// notice.h has the words of texts.
//
//   DOCX       the notice as the first paragraph
//   PDF        the mark at the top left of the first page, as lines (no font is needed), and the notice as the text
//   that
//              readers copy, search and have read to them
//   PNG, JPEG  the mark at the bottom right, in white on a dark ground; its characters are as high as 5 % of the
//   shortest
//              side, and at least 12 pixels. The picture is encoded anew: PNG as RGB of 8 bits (sRGB), JPEG with
//              quality 95; texts, Exif and XMP stay
//
// The mark is "AI生成" where the notice is Chinese, which names AI and generation as the standard asks, else "AI".
// A file gets it once.
#pragma once

#include <string>
#include <string_view>

#include "governance/label/label_file.h"

namespace qw::governance {

enum class MarkText : std::uint8_t { kAiGenerated, kAi };  // "AI生成", "AI"

struct VisibleLabel {
  std::string notice;
  MarkText mark = MarkText::kAiGenerated;
};

// kUsage: no format of the list above, or a program built without libpng and libjpeg. kBadInput: the file cannot be
// read to its end, has no room for the mark, or is shown turned (Exif). kFailed: it was not there when read back.
Result<std::string> with_visible_label(LabelFormat format, std::string_view file, const VisibleLabel& label);

// Of a DOCX: whether its words at either end say so (has_explicit_words). Of the others: whether they have such a mark;
// marks that others draw cannot be told from any drawing. Errors as above.
Result<bool> has_visible_label(LabelFormat format, std::string_view file);

}  // namespace qw::governance
