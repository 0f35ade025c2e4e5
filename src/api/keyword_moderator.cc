#include "api/keyword_moderator.h"

#include <utility>

#include "governance/keywords/keyword_scanner.h"

namespace qw::api {
namespace {

const std::string kName = "keyword-list";

}  // namespace

const std::string& KeywordModerator::name() const { return kName; }

Result<std::unique_ptr<KeywordModerator>> KeywordModerator::parse(std::string_view file) {
  QW_ASSIGN(governance::KeywordList list, governance::KeywordList::parse(file));
  return std::unique_ptr<KeywordModerator>(new KeywordModerator(std::move(list)));
}

KeywordModerator::Judgement KeywordModerator::judge(std::string_view text) const {
  Judgement out;
  for (const std::string& name : list_.categories())
    if (&name != &list_.categories()[governance::KeywordList::kExcept]) out.push_back({name, false, 0});
  std::vector<governance::KeywordHit> found;
  governance::KeywordScanner scanner(list_);
  scanner.push(text, found);
  scanner.finish(found);
  for (const governance::KeywordHit& hit : found) out[hit.category - 1] = {out[hit.category - 1].name, true, 1};
  return out;
}

void KeywordModerator::judge(std::vector<std::string> texts, Then then) {
  std::vector<Judgement> out;
  for (const std::string& text : texts) out.push_back(judge(text));
  then(std::move(out));
}

}  // namespace qw::api
