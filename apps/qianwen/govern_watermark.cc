// qianwen govern watermark add | list | retire | detect: the keys that a service marks its answers with, and the search
// for marks (docs/operations/watermark.md).
#include <cstdio>
#include <filesystem>

#include "base/clock.h"
#include "commands.h"
#include "governance/watermark/detector.h"
#include "text_source.h"

namespace qw::app {
namespace {

using namespace governance;

struct WatermarkOptions {
  std::string keys, id, tenant, scheme = "synthid", hash = "siphash", model, file = "-", numbers;
  std::int32_t leaves = 2;
  double level = 0.001;
  bool json = false, lines = false;
};

Result<MarkKeys> keys_of(const WatermarkOptions& o, bool may_be_new) {
  std::error_code ignored;
  if (may_be_new && !std::filesystem::exists(o.keys, ignored)) return MarkKeys();
  return MarkKeys::read(o.keys);
}

json::Object shown(const MarkKey& key) {
  json::Object out{
      {"id", key.id}, {"tenant", key.tenant}, {"scheme", name_of(key.scheme)}, {"hash", name_of(key.hash)}};
  if (key.scheme == MarkScheme::kSynthId) out.set("leaves", key.leaves);
  out.set("created", key.created);
  out.set("retired", key.retired);
  return out;
}

void print(const MarkKey& key, bool json) {
  if (json) {
    std::puts(json::dump(shown(key)).c_str());
  } else {
    std::printf("%s  %-8s %-9s %s  %s\n", key.id.c_str(), name_of(key.scheme), name_of(key.hash),
                key.retired == 0 ? "in use " : "retired", key.tenant.empty() ? "(everybody)" : key.tenant.c_str());
  }
}

Status add(const WatermarkOptions& o) {
  if (o.scheme == "gumbel" && o.leaves != 2)
    return fail(ErrorKind::kUsage, "govern watermark add: --leaves is SynthID's");
  QW_ASSIGN(MarkKeys keys, keys_of(o, true));
  const MarkScheme scheme = o.scheme == "gumbel" ? MarkScheme::kGumbel : MarkScheme::kSynthId;
  const MarkHash hash = o.hash == "reference" ? MarkHash::kReference : MarkHash::kSipHash;
  MarkKey key = make_mark_key(scheme, hash, o.leaves, o.tenant);
  if (!o.numbers.empty()) {
    if (hash != MarkHash::kReference)
      return fail(ErrorKind::kUsage, "govern watermark add: --numbers needs --hash reference");
    QW_ASSIGN(const auto given, parse_ids("govern watermark add: --numbers", o.numbers));
    if (given.empty() || given.size() > static_cast<std::size_t>(kMostLayers) ||
        (scheme == MarkScheme::kGumbel && given.size() != 1))
      return fail(ErrorKind::kUsage, "govern watermark add: --numbers: 1 for gumbel, 1 to 32 for synthid");
    key.numbers.assign(given.begin(), given.end());
    if (scheme == MarkScheme::kSynthId) key.layers = static_cast<std::int32_t>(given.size());
    calibrate(key);
  }
  QW_TRY(keys.add(key));
  QW_TRY(keys.write(o.keys));
  print(key, o.json);
  return {};
}

Status list(const WatermarkOptions& o) {
  QW_ASSIGN(const MarkKeys keys, keys_of(o, false));
  for (const MarkKey& key : keys.all()) print(key, o.json);
  return {};
}

Status retire(const WatermarkOptions& o) {
  QW_ASSIGN(MarkKeys keys, keys_of(o, false));
  QW_TRY(keys.retire(o.id, base::unix_seconds()));
  return keys.write(o.keys);
}

void print(const Detection& d) {
  if (d.tests.empty()) return (void)std::printf("%s: there are no keys\n", name_of(d.verdict));
  const MarkTest& best = d.tests[0];
  std::printf("%s: p = %.3g (%zu keys, %lld of %lld tokens scored)", name_of(d.verdict), best.p_corrected,
              d.tests.size(), static_cast<long long>(best.scored), static_cast<long long>(d.tokens));
  if (d.verdict == MarkVerdict::kMarked)
    std::printf(", key %s, clearest in tokens %lld to %lld", best.key->id.c_str(), static_cast<long long>(best.begin),
                static_cast<long long>(best.end));
  std::puts("");
}

// Exit code 0, whatever the verdict: a text without a mark is no failure.
Status detect(const WatermarkOptions& o) {
  QW_ASSIGN(const MarkKeys keys, keys_of(o, false));
  QW_ASSIGN(auto spec, tokenizer_of(o.model));
  auto made = tokenizer::Tokenizer::create(std::move(spec));
  if (!made) return in_context(o.model, std::move(made).error());
  QW_ASSIGN(std::string input, read_text(o.file));
  std::vector<std::string> texts;
  if (o.lines) {
    auto lines = json_lines(input);
    if (!lines) return in_context(o.file, std::move(lines).error());
    texts = std::move(*lines);
  } else {
    texts.push_back(std::move(input));
  }
  for (const std::string& text : texts) {
    auto found = detect_text(keys.all(), *made, text, o.level);
    if (!found) return in_context(o.file, std::move(found).error());
    if (o.json)
      std::puts(json::dump(to_json(*found)).c_str());
    else
      print(*found);
  }
  return {};
}

}  // namespace

void add_govern_watermark(CLI::App& govern, Outcome& outcome) {
  CLI::App* watermark =
      govern.add_subcommand("watermark", "The keys of serve --watermark-keys, and the search for marks");
  watermark->require_subcommand(1);
  const auto add_command = [&](const char* name, const char* what, Status (*run)(const WatermarkOptions&)) {
    CLI::App* cmd = watermark->add_subcommand(name, what);
    const auto o = std::make_shared<WatermarkOptions>();
    cmd->callback([o, run, &outcome] {
      if (const Status status = run(*o); !status) outcome.code = report(status.error());
    });
    return std::pair(cmd, o);
  };
  {
    const auto [cmd, o] =
        add_command("add", "make a key, which new answers are marked with; older ones are still looked for", add);
    cmd->add_option("KEYS", o->keys, "file of the keys; made if there is none")->required();
    cmd->add_option("--tenant", o->tenant,
                    "project whose answers alone are marked with it (default: whoever has no key of its own)");
    cmd->add_option("--scheme", o->scheme, "synthid or gumbel")->check(CLI::IsMember({"synthid", "gumbel"}));
    cmd->add_option("--hash", o->hash, "siphash, or reference: as SynthID's published code and vLLM have it")
        ->check(CLI::IsMember({"siphash", "reference"}));
    cmd->add_option("--leaves", o->leaves,
                    "of SynthID's tournament; more than 2 leave a stronger mark and change the distribution")
        ->check(CLI::Range(2, kMostLeaves));
    cmd->add_option("--numbers", o->numbers,
                    "with --hash reference: the key that another implementation uses, e.g. 654,400,836");
    cmd->add_flag("--json", o->json, "print one JSON object");
  }
  {
    const auto [cmd, o] = add_command("list", "show the keys, without their secrets", list);
    cmd->add_option("KEYS", o->keys, "file of the keys")->required();
    cmd->add_flag("--json", o->json, "print a JSON object for each");
  }
  {
    const auto [cmd, o] = add_command("retire", "mark nothing with a key any more", retire);
    cmd->add_option("KEYS", o->keys, "file of the keys")->required();
    cmd->add_option("ID", o->id, "of the key")->required();
  }
  {
    const auto [cmd, o] = add_command("detect", "look for the marks of these keys in a text", detect);
    cmd->add_option("KEYS", o->keys, "file of the keys")->required();
    cmd->add_option("-m,--model", o->model, "MODEL that wrote it, or its tokenizer's folder")->required();
    add_models_option(*cmd);
    cmd->add_option("--file", o->file, "text file (-: standard input)");
    cmd->add_option("--level", o->level, "p-values below this are a mark")->check(CLI::Range(1e-12, 0.5));
    cmd->add_flag("--lines", o->lines, "each line is a JSON string or {\"text\": ...}, and gets a line");
    cmd->add_flag("--json", o->json, "print a JSON object for each text");
  }
}

}  // namespace qw::app
