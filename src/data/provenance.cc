#include "data/provenance.h"

#include "base/utc.h"

namespace qw::data {
namespace {

constexpr std::int64_t kAnyCount = std::int64_t{1} << 40;

// Reads the keys of one table into an object, leaving out what is not there.
class Facts {
 public:
  explicit Facts(ConfigTable& table) : table_(table) {}

  void text(const char* key) {
    if (!begin(key)) return;
    std::string value;
    if (!keep(table_.read(key, value))) return;
    if (value.empty()) return wrong(key, "is empty; leave it out");
    out_.set(key, value);
  }
  void texts(const char* key) {
    if (!begin(key)) return;
    std::vector<std::string> values;
    if (!keep(table_.read(key, values))) return;
    out_.set(key, json::Array(values.begin(), values.end()));
  }
  // A day, or the month or year that is known.
  void date(const char* key) {
    if (!begin(key)) return;
    std::string value;
    if (!keep(table_.read(key, value))) return;
    std::string day = value;
    if (day.size() == 4) day += "-01";
    if (day.size() == 7) day += "-01";
    if (day.size() != 10 || !base::unix_of_utc(day)) return wrong(key, "must be a date: 2026, 2026-11 or 2026-11-29");
    out_.set(key, value);
  }
  void choice(const char* key, const std::vector<std::string_view>& names) {
    if (!begin(key)) return;
    int chosen = 0;
    if (keep(table_.read_choice(key, names, chosen))) out_.set(key, names[static_cast<std::size_t>(chosen)]);
  }
  void flag(const char* key) {
    if (!begin(key)) return;
    bool value = false;
    if (keep(table_.read(key, value))) out_.set(key, value);
  }
  void count(const char* key) {
    if (!begin(key)) return;
    std::int64_t value = 0;
    if (keep(table_.read(key, value, 0, kAnyCount))) out_.set(key, value);
  }
  template <class Read>
  void table(const char* key, Read read) {
    if (!begin(key)) return;
    auto inner = table_.table(key);
    if (!inner) {
      status_ = tl::unexpected(inner.error());
      return;
    }
    Facts facts(*inner);
    read(facts);
    auto made = facts.finish();
    if (!made) {
      status_ = tl::unexpected(made.error());
      return;
    }
    out_.set(key, std::move(*made));
  }
  Result<json::Object> finish() {
    if (!status_) return tl::unexpected(status_.error());
    QW_TRY(table_.finish());
    return std::move(out_);
  }
  const json::Object& made() const { return out_; }
  void wrong(const char* key, const char* what) {
    if (status_) status_ = table_.error(key, what);
  }

 private:
  bool begin(const char* key) const { return status_.has_value() && table_.has(key); }
  bool keep(Status read) {
    if (status_ && !read) status_ = std::move(read);
    return status_.has_value();
  }
  ConfigTable& table_;
  json::Object out_;
  Status status_;
};

std::int64_t counted(const json::Object& object, const char* key) {
  const json::Value* found = object.find(key);
  return found != nullptr ? found->as_int() : 0;
}

void read_filters(Facts& f) {
  f.count("sampled");
  f.count("illegal");
  f.count("passed");
  f.text("method");
  const json::Object& made = f.made();
  if ((made.find("illegal") != nullptr || made.find("passed") != nullptr) && made.find("sampled") == nullptr)
    return f.wrong("sampled", "is missing: of how many were these counted");
  if (counted(made, "illegal") + counted(made, "passed") > counted(made, "sampled") && made.find("sampled") != nullptr)
    f.wrong("sampled", "is less than illegal and passed together");
}

}  // namespace

Result<json::Object> read_provenance(ConfigTable table) {
  Facts f(table);
  f.choice("kind", {"public", "licensed", "third_party", "crawled", "user", "synthetic", "other"});
  f.text("spdx");
  f.text("publisher");
  f.text("contract");
  f.texts("urls");
  f.texts("languages");
  f.text("collection");
  f.date("collected_from");
  f.date("collected_to");
  f.date("latest_item");
  f.table("crawler", [](Facts& c) {
    for (const char* key : {"name", "purpose", "user_agent", "robots", "opt_outs", "captchas", "paywalls"}) c.text(key);
  });
  f.text("opt_out_snapshot");
  f.choice("ip_status", {"copyright", "trademark", "patent", "public_domain", "mixed", "unknown"});
  f.flag("purchased");
  f.choice("personal_data", {"none", "possible", "yes", "sensitive"});
  f.text("legal_basis");
  f.text("consent");
  f.choice("consumer_information", {"none", "possible", "yes"});
  f.choice("minors", {"none", "possible", "yes"});
  f.table("generator", [](Facts& g) {
    for (const char* key : {"model", "licence", "prompts"}) g.text(key);
  });
  f.table("filters", read_filters);
  f.table("annotation", [](Facts& a) {
    for (const char* key : {"rules", "workers", "quality"}) a.text(key);
  });
  f.text("bias_checks");
  f.text("purpose");
  f.date("first_used");
  f.text("retention");
  f.text("responsible");
  return f.finish();
}

Result<json::Object> read_dataset_facts(ConfigTable table) {
  Facts f(table);
  for (const char* key : {"id", "version", "name", "purpose", "responsible", "retention", "notes"}) f.text(key);
  return f.finish();
}

}  // namespace qw::data
