// qianwen govern content key | list | show | erase | rotate | forget: what the audit log has the hashes of, encrypted
// in a store; qianwen govern replay: an audited answer drawn again (docs/operations/audit.md).
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <future>

#include "admin.h"
#include "api/replay.h"
#include "base/clock.h"
#include "base/utc.h"
#include "commands.h"
#include "governance/audit/content_keys.h"
#include "governance/audit/find_answer.h"
#include "governance/audit/log_files.h"
#include "governance/watermark/mark_key.h"
#include "hosted_models.h"
#include "store/store.h"
#include "text_source.h"

namespace qw::app {
namespace {

using namespace governance;

constexpr std::int64_t kContentPage = 200;

struct ContentOptions {
  std::string keys, store, id, project, user, since, until, holds, log, model, adapter, marks, cache_type = "auto",
                                                                                               request, produce_id;
  std::int64_t seq = -1, context = 0;
  DraftChoice drafts{"auto"};
  bool json = false;
};

Result<std::unique_ptr<store::Store>> open_store(const ContentOptions& o) {
  QW_ASSIGN(const std::string url, store_url_or_default(o.store));
  return store::Store::open(url);
}

Result<std::int64_t> microseconds_of(const std::string& day) {
  if (day.empty()) return 0;
  const auto seconds = base::unix_of_utc(day.size() == 10 ? day + "T00:00:00Z" : day);
  if (!seconds)
    return fail(ErrorKind::kUsage, day + ": expected a day such as 2026-11-29, or a time of that form in UTC");
  return *seconds * 1'000'000;
}

// A first key, or a new one that new contents are encrypted with.
Status key(const ContentOptions& o) {
  ContentKeys keys;
  std::error_code ignored;
  if (std::filesystem::exists(o.keys, ignored)) {
    QW_ASSIGN(keys, ContentKeys::read(o.keys));
  }
  QW_ASSIGN(const std::string id, keys.add(base::unix_seconds()));
  QW_TRY(keys.write(o.keys));
  std::puts(o.json ? json::dump(json::Object{{"id", id}}).c_str() : id.c_str());
  return {};
}

// Calls visit with each content that is there and asked for.
template <class Visit>
Status each_content(const ContentOptions& o, store::Store& store, const std::string& not_under, Visit visit) {
  store::ContentFilter filter{o.project, o.user, not_under};
  QW_ASSIGN(filter.from_us, microseconds_of(o.since));
  QW_ASSIGN(filter.to_us, microseconds_of(o.until));
  std::string after;
  while (true) {
    QW_ASSIGN(const std::vector<store::Content> page, store.contents().list(filter, after, kContentPage));
    for (const store::Content& one : page) QW_TRY(visit(one));
    if (std::ssize(page) < kContentPage) return {};
    after = page.back().id;
  }
}

json::Object described(const store::Content& c) {
  json::Object out{{"id", c.id},
                   {"project", c.project_id},
                   {"user", c.user_id},
                   {"created", timestamp(c.created_us)},
                   {"key", c.key_id}};
  if (c.expires_us > 0) out.set("expires", timestamp(c.expires_us));
  return out;
}

Result<std::string> opened(const ContentKeys& keys, const store::Content& c) {
  auto text = keys.open(c.id, {c.key_id, c.wrapped, c.body});
  if (!text) return in_context("content " + c.id, std::move(text).error());
  return text;
}

bool holds(const json::Value& value, const std::string& text) {
  if (value.is_string()) return value.as_string().find(text) != std::string::npos;
  if (value.is_array())
    return std::any_of(value.as_array().begin(), value.as_array().end(),
                       [&](const auto& one) { return holds(one, text); });
  return value.is_object() && std::any_of(value.as_object().begin(), value.as_object().end(),
                                          [&](const auto& member) { return holds(member.second, text); });
}

// What there is, by whom and when; with keys, the words, or those that hold some.
Status list(const ContentOptions& o) {
  QW_ASSIGN(const auto store, open_store(o));
  std::optional<ContentKeys> keys;
  if (!o.keys.empty()) {
    QW_ASSIGN(keys, ContentKeys::read(o.keys));
  } else if (!o.holds.empty()) {
    return fail(ErrorKind::kUsage, "govern content list: --holds looks into contents, which needs --keys");
  }
  return each_content(o, *store, "", [&](const store::Content& c) -> Status {
    json::Object line = described(c);
    if (keys) {
      QW_ASSIGN(const std::string text, opened(*keys, c));
      QW_ASSIGN(json::Value content, json::parse(text));
      if (!o.holds.empty() && !holds(content, o.holds)) return {};
      line.set("content", std::move(content));
    }
    std::puts(json::dump(line).c_str());
    return {};
  });
}

Status show_one(const ContentOptions& o) {
  QW_ASSIGN(const auto store, open_store(o));
  QW_ASSIGN(const ContentKeys keys, ContentKeys::read(o.keys));
  QW_ASSIGN(const store::Content c, store->contents().find(o.id));
  QW_ASSIGN(const std::string text, opened(keys, c));
  std::puts(text.c_str());
  return {};
}

Status erase(const ContentOptions& o) {
  QW_ASSIGN(const auto store, open_store(o));
  return store->contents().erase(o.id);
}

// Everything under the newest key of the file; the contents themselves stay as they are.
Status rotate(const ContentOptions& o) {
  QW_ASSIGN(const auto store, open_store(o));
  QW_ASSIGN(const ContentKeys keys, ContentKeys::read(o.keys));
  std::int64_t n = 0;
  QW_TRY(each_content(o, *store, keys.newest(), [&](const store::Content& c) -> Status {
    auto again = keys.rewrap(c.id, {c.key_id, c.wrapped, c.body});
    if (!again) return in_context("content " + c.id, std::move(again).error());
    QW_ASSIGN(const bool done, store->contents().rewrap(c, again->key_id, again->wrapped));
    n += done ? 1 : 0;
    return {};
  }));
  std::printf("%lld contents are under the key %s now\n", static_cast<long long>(n), keys.newest().c_str());
  return {};
}

// An old key goes once nothing is under it, so that a copy of it opens nothing any more.
Status forget(const ContentOptions& o) {
  QW_ASSIGN(const auto store, open_store(o));
  QW_ASSIGN(ContentKeys keys, ContentKeys::read(o.keys));
  std::int64_t left = 0;
  QW_TRY(each_content(o, *store, "", [&](const store::Content& c) -> Status {
    left += c.key_id == o.id ? 1 : 0;
    return {};
  }));
  if (left > 0)
    return fail(ErrorKind::kRefused, o.keys + ": " + std::to_string(left) + " contents are under the key " + o.id +
                                         " yet (qianwen govern content rotate)");
  QW_TRY(keys.remove(o.id));
  return keys.write(o.keys);
}

Result<json::Value> recorded(const ContentOptions& o) {
  const int asked = (o.seq >= 0 ? 1 : 0) + (o.request.empty() ? 0 : 1) + (o.produce_id.empty() ? 0 : 1);
  if (asked != 1)
    return fail(ErrorKind::kUsage, "govern replay: one of --seq, --request and --produce-id says which answer");
  const char* name = o.seq >= 0 ? "seq" : o.request.empty() ? "produce_id" : "request";
  const std::string value = o.seq >= 0 ? std::to_string(o.seq) : o.request.empty() ? o.produce_id : o.request;
  QW_ASSIGN(auto found, find_record(o.log, name, value));
  if (!found) return fail(ErrorKind::kUsage, o.log + ": has no record of " + name + " " + value);
  return std::move(*found);
}

// Exit code 0 if the tokens are the same, 4 if they are others or cannot be drawn.
Result<json::Object> draw_again(const ContentOptions& o) {
  QW_ASSIGN(json::Value record, recorded(o));
  QW_ASSIGN(const auto store, open_store(o));
  QW_ASSIGN(const ContentKeys keys, ContentKeys::read(o.keys));
  std::unique_ptr<MarkKeyHolder> marks;
  if (!o.marks.empty()) {
    QW_ASSIGN(MarkKeys read, MarkKeys::read(o.marks));
    marks = std::make_unique<MarkKeyHolder>(std::move(read));
  }
  IdentityBook identities;
  HostingOptions hosting;
  hosting.load.cache_dtype = cache_dtype(o.cache_type);
  hosting.load.context = o.context;
  hosting.drafts = o.drafts;
  hosting.identities = &identities;
  HostedModels models(std::move(hosting));
  const std::string base = served_name(o.model);
  std::vector<NamedAdapter> adapters;
  if (!o.adapter.empty()) adapters.push_back({base + "+adapter", o.adapter});
  QW_TRY(models.add(o.model, adapters));
  QW_TRY(models.load_first());
  std::promise<json::Object> told;
  api::replay({&models.list(), store.get(), &keys, marks.get()}, std::move(record),
              adapters.empty() ? base : adapters[0].name,
              [&](json::Object verdict) { told.set_value(std::move(verdict)); });
  json::Object verdict = told.get_future().get();
  models.stop();
  return verdict;
}

Status replay_answer(const ContentOptions& o) {
  QW_ASSIGN(const json::Object verdict, draw_again(o));
  if (o.json) std::puts(json::dump(verdict).c_str());
  const std::string& said = verdict.find("verdict")->as_string();
  const json::Value *message = verdict.find("message"), *choices = verdict.find("choices");
  if (!o.json && choices != nullptr) {
    for (const json::Value& one : choices->as_array()) {
      const json::Value* parts = one.find("first_difference");
      std::printf("%lld tokens: %s\n", static_cast<long long>(one.find("tokens")->as_int()),
                  parts == nullptr ? "the same" : ("others from token " + json::dump(*parts) + " on").c_str());
    }
  }
  if (said == "same") return {};
  return fail(ErrorKind::kRefused, message != nullptr ? message->as_string() : "the tokens are others");
}

}  // namespace

void add_govern_content(CLI::App& govern, Outcome& outcome) {
  CLI::App* content =
      govern.add_subcommand("content", "What was asked and answered, where a policy keeps it, encrypted");
  content->require_subcommand(1);
  const auto add_command = [&outcome](CLI::App& under, const char* name, const char* what,
                                      Status (*run)(const ContentOptions&)) {
    CLI::App* cmd = under.add_subcommand(name, what);
    const auto o = std::make_shared<ContentOptions>();
    cmd->callback([o, run, &outcome] {
      if (const Status status = run(*o); !status) outcome.code = report(status.error());
    });
    return std::pair(cmd, o);
  };
  const auto store_option = [](CLI::App* cmd, ContentOptions& o) {
    cmd->add_option("--store", o.store, "of the service: a file or postgres://... (default: QW_STORE)");
  };
  const auto keys_option = [](CLI::App* cmd, ContentOptions& o, bool needed) {
    auto* option = cmd->add_option("--keys", o.keys, "file of the keys, or env:NAME, a variable that holds it");
    if (needed) option->required();
  };
  const auto whose = [](CLI::App* cmd, ContentOptions& o) {
    cmd->add_option("--project", o.project, "id of a project: of that alone");
    cmd->add_option("--user", o.user, "id of a user: his alone");
    cmd->add_option("--since", o.since, "day (2026-11-29) or time in UTC");
    cmd->add_option("--until", o.until, "day or time in UTC; what is of then is left out");
  };
  {
    const auto [cmd, o] = add_command(*content, "key", "make a key, which new contents are encrypted with", key);
    cmd->add_option("FILE", o->keys, "of the keys; made if there is none")->required();
    cmd->add_flag("--json", o->json, "print one JSON object");
  }
  {
    const auto [cmd, o] =
        add_command(*content, "list", "contents, a JSON object a line; with --keys their words, too", list);
    store_option(cmd, *o);
    keys_option(cmd, *o, false);
    whose(cmd, *o);
    cmd->add_option("--holds", o->holds, "only contents that hold this text");
  }
  {
    const auto [cmd, o] = add_command(*content, "show", "print one, decrypted", show_one);
    store_option(cmd, *o);
    keys_option(cmd, *o, true);
    cmd->add_option("ID", o->id, "of the content, as its record has it")->required();
  }
  {
    const auto [cmd, o] = add_command(*content, "erase", "forget one, and its key; the log stays whole", erase);
    store_option(cmd, *o);
    cmd->add_option("ID", o->id, "of the content")->required();
  }
  {
    const auto [cmd, o] =
        add_command(*content, "rotate", "bring all contents under the newest key of the file", rotate);
    store_option(cmd, *o);
    keys_option(cmd, *o, true);
  }
  {
    const auto [cmd, o] =
        add_command(*content, "forget", "take an old key out of the file, once nothing is under it", forget);
    store_option(cmd, *o);
    keys_option(cmd, *o, true);
    cmd->add_option("ID", o->id, "of the key")->required();
  }
  const auto [cmd, o] = add_command(
      govern, "replay", "draw an audited answer again: exit code 4 unless its tokens are the same", replay_answer);
  cmd->add_option("FOLDER", o->log, "of the audit log")->required();
  cmd->add_option("--seq", o->seq, "the record's seq");
  cmd->add_option("--request", o->request, "the answer's X-Request-Id");
  cmd->add_option("--produce-id", o->produce_id, "the number of its label");
  cmd->add_option("-m,--model", o->model, "MODEL that answered")->required();
  add_models_option(*cmd);
  cmd->add_option("--adapter", o->adapter, "the adapter that it answered with");
  store_option(cmd, *o);
  cmd->add_option("--content-keys", o->keys, "file of the content keys, or env:NAME")->required();
  cmd->add_option("--watermark-keys", o->marks, "file of the keys that answers were marked with");
  cmd->add_option("--context", o->context, "longest sequence in tokens (default: the model's)")
      ->check(CLI::NonNegativeNumber);
  add_cache_type_option(*cmd, o->cache_type);
  add_draft_options(*cmd, o->drafts);
  cmd->add_flag("--json", o->json, "print one JSON object");
}

}  // namespace qw::app
