#include "train/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>

#include "base/html.h"
#include "json/value.h"

namespace qw::train {
namespace {

// What a line may tell that is worth a curve, in the order of panels.
constexpr const char* kOfSteps[] = {"loss", "lr", "grad_norm", "tps", "accuracy", "margin", "reward", "kl"};
constexpr const char* kOfEvals[] = {"eval_loss", "bits_per_byte", "accuracy", "margin", "mrr", "reward"};
constexpr const char* kTitles[][2] = {{"loss", "Loss (nats a token)"},
                                      {"eval_loss", "Loss on what was held out"},
                                      {"lr", "Learning rate"},
                                      {"grad_norm", "Gradient norm"},
                                      {"tps", "Tokens a second"},
                                      {"bits_per_byte", "Bits a byte, held out"},
                                      {"accuracy", "Right"},
                                      {"margin", "Margin"},
                                      {"reward", "Reward"},
                                      {"kl", "Divergence from the start"},
                                      {"mrr", "Mean reciprocal rank"}};
// Points of a curve on a page: more are not seen, and a long run has millions.
constexpr std::size_t kMostPoints = 1000;

using Points = std::map<std::int64_t, double>;

void take(const json::Value& line, const char* member, std::int64_t step, Points& points) {
  const json::Value* value = line.find(member);
  if (value == nullptr || !value->is_number()) return;
  if (const double x = value->as_double(); std::isfinite(x)) points[step] = x;
}

void add_curve(RunLog& log, const std::string& name, const Points& points) {
  if (!points.empty()) log.curves.push_back({name, {points.begin(), points.end()}});
}

std::string number(double x) {
  char text[40];
  std::snprintf(text, sizeof text, std::fabs(x) >= 0.01 && std::fabs(x) < 1e6 ? "%.4g" : "%.3g", x);
  return text;
}

std::string title_of(const std::string& name) {
  const std::string plain = name.starts_with("held out: ") ? name.substr(10) : name;
  for (const auto& row : kTitles)
    if (plain == row[0]) return row[1] + std::string(plain == name ? "" : ", held out");
  return name;
}

struct Range {
  double low = 0, high = 1;
  double at(double x) const { return high > low ? (x - low) / (high - low) : 0.5; }
};

Range values_of(const std::vector<const Curve*>& curves) {
  std::optional<Range> r;
  for (const Curve* c : curves)
    for (const auto& [step, x] : c->points) {
      if (!r) r = Range{x, x};
      r->low = std::min(r->low, x);
      r->high = std::max(r->high, x);
    }
  if (!r) return {};
  if (r->low == r->high)
    *r = {r->low - std::max(1e-9, std::fabs(r->low) * 0.05), r->high + std::max(1e-9, std::fabs(r->high) * 0.05)};
  return *r;
}

Range steps_of(const RunLog& log) {
  Range r{static_cast<double>(log.last_step), static_cast<double>(log.last_step)};
  for (const Curve& c : log.curves) {
    r.low = std::min(r.low, static_cast<double>(c.points.front().first));
    r.high = std::max(r.high, static_cast<double>(c.points.back().first));
  }
  return r;
}

// At most kMostPoints of them: of each stretch of steps the least and the greatest, so that no spike is lost.
std::vector<std::pair<std::int64_t, double>> thinned(const Curve& curve) {
  const auto& all = curve.points;
  if (all.size() <= kMostPoints) return all;
  std::vector<std::pair<std::int64_t, double>> out;
  const std::size_t stretches = kMostPoints / 2;
  for (std::size_t s = 0; s < stretches; ++s) {
    const std::size_t begin = s * all.size() / stretches, end = (s + 1) * all.size() / stretches;
    std::size_t low = begin, high = begin;
    for (std::size_t i = begin; i < end; ++i) {
      if (all[i].second < all[low].second) low = i;
      if (all[i].second > all[high].second) high = i;
    }
    out.push_back(all[std::min(low, high)]);
    if (low != high) out.push_back(all[std::max(low, high)]);
  }
  return out;
}

// Which curves share a panel: the loss of steps and of evaluations do.
std::vector<std::vector<const Curve*>> panels_of(const RunLog& log) {
  std::vector<std::vector<const Curve*>> out;
  const Curve *loss = log.find("loss"), *eval = log.find("eval_loss");
  if (loss != nullptr || eval != nullptr) {
    out.emplace_back();
    for (const Curve* c : {loss, eval})
      if (c != nullptr) out.back().push_back(c);
  }
  for (const Curve& c : log.curves)
    if (&c != loss && &c != eval) out.push_back({&c});
  return out;
}

// A grid of characters of two by four dots each (U+2800 and on).
class Dots {
 public:
  Dots(std::int64_t columns, std::int64_t lines)
      : columns_(columns), lines_(lines), cells_(static_cast<std::size_t>(columns * lines)) {}
  void set(double x, double y) {  // both of [0, 1], y upwards
    const auto dot_x = std::clamp<std::int64_t>(
        static_cast<std::int64_t>(x * static_cast<double>(columns_ * 2 - 1) + 0.5), 0, columns_ * 2 - 1);
    const auto dot_y = std::clamp<std::int64_t>(
        static_cast<std::int64_t>((1 - y) * static_cast<double>(lines_ * 4 - 1) + 0.5), 0, lines_ * 4 - 1);
    static constexpr unsigned kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    cells_[static_cast<std::size_t>(dot_y / 4 * columns_ + dot_x / 2)].dots |= kBits[dot_y % 4][dot_x % 2];
  }
  void mark(double x, double y) {
    const auto column = std::clamp<std::int64_t>(static_cast<std::int64_t>(x * static_cast<double>(columns_ - 1) + 0.5),
                                                 0, columns_ - 1);
    const auto line = std::clamp<std::int64_t>(
        static_cast<std::int64_t>((1 - y) * static_cast<double>(lines_ - 1) + 0.5), 0, lines_ - 1);
    cells_[static_cast<std::size_t>(line * columns_ + column)].marked = true;
  }
  std::string line(std::int64_t i) const {
    std::string out;
    for (std::int64_t c = 0; c < columns_; ++c) {
      const Cell& cell = cells_[static_cast<std::size_t>(i * columns_ + c)];
      const unsigned code = cell.marked ? 0x25CF : cell.dots == 0 ? 0x20 : 0x2800 + cell.dots;
      if (code < 0x80) {
        out += static_cast<char>(code);
      } else {
        out += static_cast<char>(0xE0 | code >> 12);
        out += static_cast<char>(0x80 | (code >> 6 & 63));
        out += static_cast<char>(0x80 | (code & 63));
      }
    }
    return out;
  }

 private:
  struct Cell {
    unsigned dots = 0;
    bool marked = false;
  };
  std::int64_t columns_, lines_;
  std::vector<Cell> cells_;
};

constexpr std::int64_t kScaleColumns = 11;

std::string padded(const std::string& text, std::int64_t width) {
  return std::string(
             static_cast<std::size_t>(std::max<std::int64_t>(0, width - static_cast<std::int64_t>(text.size()))), ' ') +
         text;
}

std::string plot_text(const std::vector<const Curve*>& curves, const Range& steps, std::int64_t width,
                      std::int64_t height) {
  const Range range = values_of(curves);
  const std::int64_t columns = std::max<std::int64_t>(4, width - kScaleColumns - 1);
  Dots dots(columns, height);
  std::string out = title_of(curves.front()->name);
  for (std::size_t i = 1; i < curves.size(); ++i) out += "; \u25CF " + title_of(curves[i]->name);
  out += "\n";
  for (std::size_t i = 0; i < curves.size(); ++i)
    for (const auto& [step, value] : curves[i]->points)
      if (i == 0)
        dots.set(steps.at(static_cast<double>(step)), range.at(value));
      else
        dots.mark(steps.at(static_cast<double>(step)), range.at(value));
  for (std::int64_t l = 0; l < height; ++l) {
    const bool labelled = l == 0 || l == height - 1 || l == height / 2;
    const double at = range.high - (range.high - range.low) * static_cast<double>(l) /
                                       static_cast<double>(std::max<std::int64_t>(1, height - 1));
    out += padded(labelled ? number(at) : "", kScaleColumns) + "\u2502" + dots.line(l) + "\n";
  }
  const std::string first = std::to_string(static_cast<std::int64_t>(steps.low)),
                    last = std::to_string(static_cast<std::int64_t>(steps.high));
  out += padded("step", kScaleColumns) + " " + first + padded(last, columns - static_cast<std::int64_t>(first.size())) +
         "\n";
  return out;
}

std::string summary(const RunLog& log) {
  std::string out = "step " + std::to_string(log.last_step);
  if (log.tokens > 0) out += ", " + std::to_string(log.tokens) + " tokens";
  if (const Curve* loss = log.find("loss")) out += ", loss " + number(loss->points.back().second);
  if (log.best_step > 0)
    out += ", best held-out loss " + number(log.best_loss) + " at step " + std::to_string(log.best_step);
  if (!log.rollbacks.empty()) out += ", went back " + std::to_string(log.rollbacks.size()) + " times";
  return out;
}

constexpr double kWidth = 900, kHeight = 260, kLeft = 70, kRight = 15, kTop = 12, kBottom = 28;

std::string coordinate(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", x);
  return text;
}
double x_of(const Range& steps, double step) { return kLeft + steps.at(step) * (kWidth - kLeft - kRight); }
double y_of(const Range& range, double value) {
  return kHeight - kBottom - range.at(value) * (kHeight - kTop - kBottom);
}

std::string axes_svg(const Range& steps, const Range& range) {
  std::string out;
  constexpr int kTicks = 4;
  for (int i = 0; i <= kTicks; ++i) {
    const double value = range.low + (range.high - range.low) * i / kTicks, y = y_of(range, value);
    out += "<line class='grid' x1='" + coordinate(kLeft) + "' x2='" + coordinate(kWidth - kRight) + "' y1='" +
           coordinate(y) + "' y2='" + coordinate(y) + "'/><text x='" + coordinate(kLeft - 6) + "' y='" +
           coordinate(y + 4) + "' text-anchor='end'>" + number(value) + "</text>";
    const double step = steps.low + (steps.high - steps.low) * i / kTicks, x = x_of(steps, step);
    out += "<text x='" + coordinate(x) + "' y='" + coordinate(kHeight - 8) + "' text-anchor='middle'>" +
           std::to_string(static_cast<std::int64_t>(step + 0.5)) + "</text>";
  }
  return out;
}

std::string curve_svg(const Curve& curve, std::size_t which, const Range& steps, const Range& range) {
  std::string path;
  std::string marks;
  for (const auto& [step, value] : thinned(curve)) {
    const std::string x = coordinate(x_of(steps, static_cast<double>(step))), y = coordinate(y_of(range, value));
    path += (path.empty() ? "M" : "L") + x + " " + y;
    if (which > 0)
      marks += "<circle class='c" + std::to_string(which) + "' cx='" + x + "' cy='" + y + "' r='3'><title>step " +
               std::to_string(step) + ": " + number(value) + "</title></circle>";
  }
  return "<path class='c" + std::to_string(which) + "' d='" + path + "'/>" + marks;
}

std::string panel_html(const RunLog& log, const std::vector<const Curve*>& curves, const Range& steps) {
  const Range range = values_of(curves);
  std::string out = "<section><h2>";
  for (std::size_t i = 0; i < curves.size(); ++i)
    out += (i == 0 ? "" : " &middot; ") + std::string("<span class='k") + std::to_string(i) + "'>" +
           base::html_escaped(title_of(curves[i]->name)) + "</span>";
  out += "</h2><svg viewBox='0 0 900 260' role='img' aria-label='" + base::html_escaped(title_of(curves.front()->name)) +
         " by step'>" + axes_svg(steps, range);
  for (const std::int64_t step : log.rollbacks) {
    const std::string x = coordinate(x_of(steps, static_cast<double>(step)));
    out += "<line class='broke' x1='" + x + "' x2='" + x + "' y1='" + coordinate(kTop) + "' y2='" +
           coordinate(kHeight - kBottom) + "'><title>went back from step " + std::to_string(step) + "</title></line>";
  }
  for (std::size_t i = 0; i < curves.size(); ++i) out += curve_svg(*curves[i], i, steps, range);
  return out + "</svg></section>\n";
}

constexpr const char* kStyle =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 "
    "1rem;color:#1d2330;background:#fff}"
    "h1{font-size:1.3rem;overflow-wrap:anywhere}h2{font-size:1rem;margin:1.4rem 0 .2rem}svg{width:100%;height:auto}"
    "text{font-size:11px;fill:#667}.grid{stroke:#e3e6ee}.broke{stroke:#c33;stroke-dasharray:3 3}"
    "path{fill:none;stroke-width:1.6}path.c0{stroke:#2f6fde}path.c1{stroke:#d9731a}circle.c1{fill:#d9731a}"
    ".k0{color:#2f6fde}.k1{color:#b65c0f}table{border-collapse:collapse}td,th{padding:.1rem .8rem .1rem "
    "0;text-align:left}"
    "@media(prefers-color-scheme:dark){body{background:#14171d;color:#dde}text{fill:#99a}.grid{stroke:#2a2f3a}}";

}  // namespace

const Curve* RunLog::find(std::string_view name) const {
  const auto at = std::find_if(curves.begin(), curves.end(), [&](const Curve& c) { return c.name == name; });
  return at == curves.end() ? nullptr : &*at;
}

Result<RunLog> parse_run_log(std::string_view text, const std::string& name) {
  RunLog log;
  std::map<std::string, Points> steps, evals;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    const std::string_view line = text.substr(at, end == std::string_view::npos ? end : end - at);
    at = end == std::string_view::npos ? text.size() : end + 1;
    ++log.lines;
    if (line.empty()) continue;
    const auto value = json::parse(line);
    if (!value || !value->is_object()) {
      if (end == std::string_view::npos) break;  // whoever wrote it was killed
      return fail(ErrorKind::kBadInput,
                  name + ":" + std::to_string(log.lines) + ": " + (value ? "is no object" : value.error().message));
    }
    if (const json::Value* broke = value->find("broken_step"); broke != nullptr && broke->is_int()) {
      log.rollbacks.push_back(broke->as_int());
      continue;
    }
    const json::Value* said = value->find("step");
    if (said == nullptr || !said->is_int() || said->as_int() < 0) continue;  // something else that is told
    const std::int64_t step = said->as_int();
    log.last_step = std::max(log.last_step, step);
    if (value->find("eval_loss") != nullptr) {
      for (const char* member : kOfEvals) take(*value, member, step, evals[member]);
      continue;
    }
    for (const char* member : kOfSteps) take(*value, member, step, steps[member]);
    if (const json::Value* tokens = value->find("tokens"); tokens != nullptr && tokens->is_int())
      log.tokens = tokens->as_int();
    if (const json::Value* left = value->find("seconds_left"); left != nullptr && left->is_number())
      log.seconds_left = left->as_double();
  }
  for (const char* member : kOfSteps) add_curve(log, member, steps[member]);
  for (const char* member : kOfEvals)
    add_curve(log, log.find(member) == nullptr ? member : "held out: " + std::string(member), evals[member]);
  if (log.curves.empty()) return fail(ErrorKind::kBadInput, name + ": has no step of a run");
  if (const Curve* eval = log.find("eval_loss")) {
    const auto best = std::min_element(eval->points.begin(), eval->points.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    log.best_step = best->first;
    log.best_loss = best->second;
  }
  return log;
}

std::string report_text(const RunLog& log, std::int64_t width, std::int64_t height) {
  std::string out = summary(log) + "\n";
  const Range steps = steps_of(log);
  for (const auto& curves : panels_of(log)) {
    const bool main = curves.front()->name == "loss" || curves.front()->name == "eval_loss";
    out += "\n" + plot_text(curves, steps, width, main ? height : std::max<std::int64_t>(4, height / 3));
  }
  return out;
}

std::string report_html(const RunLog& log, const std::string& title) {
  std::string out =
      "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
      "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
      "<title>" +
      base::html_escaped(title) + "</title><style>" + kStyle + "</style><h1>" + base::html_escaped(title) + "</h1><p>" +
      base::html_escaped(summary(log)) + "</p>\n";
  const Range steps = steps_of(log);
  for (const auto& curves : panels_of(log)) out += panel_html(log, curves, steps);
  if (const Curve* eval = log.find("eval_loss")) {
    out += "<section><h2>Evaluations</h2><table><tr><th>step</th><th>held-out loss</th></tr>";
    for (const auto& [step, value] : thinned(*eval))
      out += "<tr><td>" + std::to_string(step) + "</td><td>" + number(value) +
             (step == log.best_step ? " (best)" : "") + "</td></tr>";
    out += "</table></section>";
  }
  return out + "</html>\n";
}

}  // namespace qw::train
