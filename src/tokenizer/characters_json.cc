// tokenizer.json of a vocabulary of characters.
#include "tokenizer/internal/character_bpe.h"
#include "tokenizer/internal/folder_files.h"
#include "tokenizer/internal/shown.h"

namespace qw::tokenizer {
namespace {

using json::Value;
using Blank = CharacterVocabulary::Blank;

tl::unexpected<Error> bad(const std::string& where, const std::string& what) {
  return fail(ErrorKind::kBadInput, where + ": " + what);
}

bool is_text(const Value* value, std::string_view text) {
  return value != nullptr && value->is_string() && value->as_string() == text;
}

bool replaces(const Value& step, std::string_view from, std::string_view to) {
  const Value* pattern = step.find("pattern");
  return is_type(step, "Replace") && pattern != nullptr && is_text(pattern->find("String"), from) &&
         is_text(step.find("content"), to);
}

// Nothing, or blanks to U+2581, after one put in front or not. Returns whether blanks are replaced.
Result<bool> read_normalizer(const Value* value, CharacterVocabulary& characters) {
  characters.blank = Blank::kNever;
  if (value == nullptr || value->is_null()) return false;
  auto steps = steps_of(*value, "normalizers");
  if (steps.empty()) return false;
  if (is_type(*steps[0], "Prepend") && is_text(steps[0]->find("prepend"), kBlankSign)) {
    characters.blank = Blank::kAlways;
    steps.erase(steps.begin());
  }
  if (steps.size() != 1 || !replaces(*steps[0], " ", kBlankSign)) {
    return bad("normalizer", "expected Prepend and Replace of blanks, not " + shown(json::dump(*value)));
  }
  return true;
}

Status read_metaspace(const Value& step, CharacterVocabulary& characters) {
  const std::string where = "pre_tokenizer";
  if (!is_type(step, "Metaspace") || !is_text(step.find("replacement"), kBlankSign)) {
    return bad(where, "expected none or a Metaspace of U+2581, not " + shown(json::dump(step)));
  }
  const Value *scheme = step.find("prepend_scheme"), *split = step.find("split");
  if (split == nullptr || !is_off(step, "split")) return bad(where, "a Metaspace that splits is not supported");
  if (is_text(scheme, "always"))
    characters.blank = Blank::kUnlessThere;
  else if (is_text(scheme, "first"))
    characters.blank = Blank::kFirstUnlessThere;
  else if (!is_text(scheme, "never"))
    return bad(where, "unknown prepend_scheme");
  return {};
}

Status read_decoder(const Value* value, CharacterVocabulary& characters) {
  if (value == nullptr) return bad("decoder", "missing");
  const auto steps = steps_of(*value, "decoders");
  const bool known = (steps.size() == 3 || steps.size() == 4) && replaces(*steps[0], kBlankSign, " ") &&
                     is_type(*steps[1], "ByteFallback") && is_type(*steps[2], "Fuse");
  if (!known) return bad("decoder", "expected Replace, ByteFallback, Fuse and maybe Strip");
  characters.strip_blank = steps.size() == 4;
  if (steps.size() == 3) return {};
  const Value* start = steps[3]->find("start");
  if (!is_type(*steps[3], "Strip") || !is_text(steps[3]->find("content"), " ") || start == nullptr ||
      !start->is_int() || start->as_int() != 1 || !is_off(*steps[3], "stop")) {
    return bad("decoder", "the Strip must take one blank from the front");
  }
  return {};
}

}  // namespace

Status read_characters_json(const Value& root, AddedReader& added, TokenizerSpec& spec) {
  CharacterVocabulary& characters = spec.characters.emplace();
  characters.bytes.assign(256, -1);
  spec.nfc = false;
  spec.pre_tokenizer.clear();
  QW_ASSIGN(const bool replaced, read_normalizer(root.find("normalizer"), characters));
  const Value* pre = root.find("pre_tokenizer");
  const bool metaspace = pre != nullptr && !pre->is_null();
  if (replaced == metaspace)
    return bad("normalizer", "blanks are replaced by normaliser and pre-tokeniser, or by none");
  if (metaspace) QW_TRY(read_metaspace(*pre, characters));
  QW_TRY(read_decoder(root.find("decoder"), characters));
  const Value& model = *root.find("model");
  if (model.find("type") != nullptr && !is_type(model, "BPE")) return bad("model", "only BPE is known");
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"}) {
    if (!is_off(model, key)) return bad("model", std::string(key) + " is set, which no model of this kind has");
  }
  const Value* vocab = model.find("vocab");
  if (vocab == nullptr) return bad("model", "no vocab");
  QW_TRY(read_vocabulary(*vocab, added, spec));
  return read_merges(model.find("merges"), spec);
}

}  // namespace qw::tokenizer
