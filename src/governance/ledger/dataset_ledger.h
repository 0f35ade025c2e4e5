// What a data ledger (docs/formats/token_shards.md) says of each source, field by field, and what is asked for and not
// there: by the technical documentation of Annex XI, the Commission's summary of training content, California's AB
// 2013, and the Chinese measures on generative services. Reads JSON; the data themselves are somebody else's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::governance {

// Who asks; bits.
inline constexpr unsigned kAnnexXi = 1, kEuSummary = 2, kAb2013 = 4, kChina = 8;
inline constexpr unsigned kAllRegimes = 15;
struct Regime {
  unsigned bit;
  const char *id, *title;
};
std::span<const Regime> regimes();

struct DatasetField {
  const char* key;               // "licence"; "provenance.kind"; "provenance.crawler.name"
  const char *title, *title_zh;  // for people
  unsigned asked_by;
  const char* only_for;  // of sources of this kind alone; "": of all
};
std::span<const DatasetField> dataset_fields();

class DatasetLedger {
 public:
  // kBadInput: not a ledger of data build, or a source is none.
  static Result<DatasetLedger> parse(std::string_view file);

  const json::Value& document() const { return document_; }
  const std::string& sha256() const { return sha256_; }  // of the file: what names it in checkpoints and records
  const json::Array& sources() const { return document_.find("sources")->as_array(); }
  std::int64_t tokens() const;  // of all sources, held-out ones included
  // "less than 1 billion tokens" and so on, as the Commission's template has them.
  const char* size_band() const;

 private:
  json::Value document_;
  std::string sha256_;
};

// A field of a source (of sources()) as text; nothing: not recorded.
std::optional<std::string> field_text(const json::Value& source, std::string_view key);
// What stands at a place of any record: names with dots between them, and numbers, from 0, into lists.
const json::Value* member_at(const json::Value& value, std::string_view key);

// Fields that `regimes` ask for and the source does not have.
std::vector<const DatasetField*> missing_fields(const json::Value& source, unsigned regimes);
// What of it is out of bounds, a line each: more than 5 % of the sampled items illegal, and such.
std::vector<std::string> warnings_of(const json::Value& source);

}  // namespace qw::governance
