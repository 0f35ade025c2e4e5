#include "governance/policy/internal/profile_parts.h"

namespace qw::governance {
namespace {

// Texts that keywords may be.
void read_words(Members& in, const char* name, std::vector<std::string>& out) {
  const json::Value* list = in.find(name);
  if (list == nullptr) return;
  constexpr std::size_t kMostWords = 10'000, kLongestWord = 200;
  if (!list->is_array() || list->as_array().size() > kMostWords) return in.reject(name, "must be a list of texts");
  for (const json::Value& item : list->as_array()) {
    if (!item.is_string() || item.as_string().empty() || item.as_string().size() > kLongestWord)
      return in.reject(name, "must be a list of texts of 1 to 200 bytes");
    const std::string& word = item.as_string();
    if (word.find_first_of("\n\r") != std::string::npos ||
        std::string_view("[#@").find(word[0]) != std::string_view::npos)
      return in.reject(name, "has a text that is no keyword: it has several lines, or begins with [, # or @");
    out.push_back(word);
  }
  if (const auto list_of = keyword_list("words", out); !list_of) in.reject(name, list_of.error().message);
}

void read_step(Members& in, store::StrikeStep& out) {
  in.count("in_a_row", out.in_a_row, 0, 1000);
  in.count("a_day", out.a_day, 0, 1000);
  std::string action = "suspend";
  in.choice("action", action, {"warn", "slow", "suspend"});
  out.measure = action == "warn"   ? store::Measure::kWarn
                : action == "slow" ? store::Measure::kSlow
                                   : store::Measure::kSuspend;
  in.count("minutes", out.minutes, 1, 525'600);
  in.count("per_minute", out.per_minute, 1, 600);
}

// One step, or `steps`, or both.
void read_strikes(Members& in, std::vector<store::StrikeStep>& out) {
  const auto add = [&](Members& at, const store::StrikeStep& step, bool needed) {
    if (step.in_a_row > 0 || step.a_day > 0) return out.push_back(step);
    if (needed) at.reject("", "needs in_a_row or a_day");
  };
  store::StrikeStep own;
  read_step(in, own);
  add(in, own, false);
  in.objects("steps", [&](Members& item) {
    store::StrikeStep step;
    read_step(item, step);
    add(item, step, true);
  });
}

void read_crisis(Members& in, CrisisRule& out) {
  read_words(in, "keywords", out.keywords);
  in.text("reply", out.reply, true, 4000);
  if (out.reply.empty()) in.reject("reply", "must say something");
  in.objects(
      "helplines",
      [&](Members& line) {
        Helpline& made = out.helplines.emplace_back();
        line.text("name", made.name, true, 200);
        line.text("contact", made.contact, true, 200);
        line.text("hours", made.hours, false, 200);
        if (made.name.empty() || made.contact.empty()) line.reject("", "needs a name and a contact");
      },
      true);
  if (out.helplines.empty()) in.reject("helplines", "must name where help is");
  std::string answer = "instead";
  in.choice("answer", answer, {"instead", "before"});
  out.instead = answer == "instead";
}

void read_minors(Members& in, MinorRule& out) {
  const json::Value* ages = in.find("ages", true);
  if (ages == nullptr) return;
  if (!ages->is_array() || ages->as_array().empty()) return in.reject("ages", "must be a list of ages");
  for (const json::Value& age : ages->as_array()) {
    if (!age.is_int() || age.as_int() < 1 || age.as_int() > 21) return in.reject("ages", "must be a list of ages");
    if (!out.ages.empty() && age.as_int() <= out.ages.back()) return in.reject("ages", "must rise");
    out.ages.push_back(age.as_int());
  }
  in.object("guard", [&](Members& guard) {
    guard.object("input", [&](Members& side) { read_side(side, out.input); });
    guard.object("output", [&](Members& side) { read_side(side, out.output); });
  });
  read_packs(in, out.packs);
  in.flag("companions", out.companions);
  in.count("minutes_a_day", out.minutes_a_day, 1, 1440);
  in.count("reminder_min", out.reminder_min, 1, 1440);
}

void read_companion(Members& in, CompanionRule& out) {
  in.count("reminder_min", out.reminder_min, 0, 1440);
  in.count("pause_min", out.pause_min, 1, 1440);
  in.text("reminder", out.reminder);
  read_words(in, "personas", out.personas);
  if (const json::Value* list = in.find("models"); list != nullptr) {
    if (!list->is_array()) return in.reject("models", "must be a list of models");
    for (const json::Value& item : list->as_array()) {
      if (!item.is_string() || item.as_string().empty()) return in.reject("models", "must be a list of models");
      out.models.push_back(item.as_string());
    }
  }
  in.flag("only_companions", out.only_companions);
  if (out.only_companions && out.personas.empty() && out.models.empty())
    in.reject("only_companions", "needs personas or models, which tell who is one");
}

}  // namespace

void read_conduct(Members& in, Profile& out) {
  in.object("strikes", [&](Members& strikes) {
    read_strikes(strikes, out.strikes);
    strikes.choice("of", out.strikes_of, {"key", "end_user", "both"});
  });
  in.object("crisis", [&](Members& crisis) { read_crisis(crisis, out.crisis.emplace()); });
  in.object("companion", [&](Members& companion) { read_companion(companion, out.companion); });
  in.object("minors", [&](Members& minors) { read_minors(minors, out.minors.emplace()); });
  if (out.minors && !out.minors->companions && out.companion.personas.empty() && out.companion.models.empty())
    in.reject("minors", "companions are forbidden, and companion.personas and companion.models name none");
  in.count("utc_offset_min", out.utc_offset_min, -720, 840);
}

}  // namespace qw::governance
