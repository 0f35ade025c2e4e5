#include "base/metrics.h"

#include <algorithm>
#include <charconv>

namespace qw::base {
namespace {

std::string number(double value) {
  char text[32];  // the shortest form of a double has at most 24 characters
  return {text, std::to_chars(text, text + sizeof(text), value).ptr};
}

// {a="x",b="y"}, or nothing.
std::string label_text(const Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    out += (out.empty() ? "{" : ",") + name + "=\"";
    for (const char c : value) {
      if (c == '\\' || c == '"') out += '\\';
      out += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    out += '"';
  }
  return out.empty() ? out : out + "}";
}

// One more label in a text of labels.
std::string with(const std::string& labels, const std::string& more) {
  return labels.empty() ? "{" + more + "}" : labels.substr(0, labels.size() - 1) + "," + more + "}";
}

void head(std::string& out, const std::string& name, const std::string& help, const char* type) {
  out += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

}  // namespace

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

void Samples::add(const std::string& name, const std::string& help, const char* type, const Labels& labels,
                  double value) {
  Family& family = families_[name];
  family.help = help;
  family.type = type;
  family.lines.emplace_back(name + label_text(labels), value);
}

Counter& Metrics::counter(const std::string& name, const std::string& help, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  auto& family = counters_[name];
  family.help = help;
  auto& made = family.by_labels[label_text(labels)];
  if (!made) made = std::make_unique<Counter>();
  return *made;
}

Histogram& Metrics::histogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                              const Labels& labels) {
  const std::lock_guard lock(mutex_);
  auto& family = histograms_[name];
  family.help = help;
  auto& made = family.by_labels[label_text(labels)];
  if (!made) made = std::make_unique<Histogram>(bounds);
  return *made;
}

void Metrics::collect(std::function<void(Samples&)> source) {
  const std::lock_guard lock(mutex_);
  sources_.push_back(std::move(source));
}

std::string Metrics::exposition() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, family] : counters_) {
    head(out, name, family.help, "counter");
    for (const auto& [labels, counter] : family.by_labels)
      out += name + labels + " " + std::to_string(counter->value()) + "\n";
  }
  for (const auto& [name, family] : histograms_) {
    head(out, name, family.help, "histogram");
    for (const auto& [labels, histogram] : family.by_labels) {
      std::int64_t below = 0;
      for (std::size_t i = 0; i < histogram->counts_.size(); ++i) {
        below += histogram->counts_[i].load(std::memory_order_relaxed);
        const std::string bound = i < histogram->bounds_.size() ? number(histogram->bounds_[i]) : "+Inf";
        out += name + "_bucket" + with(labels, "le=\"" + bound + "\"") + " " + std::to_string(below) + "\n";
      }
      out += name + "_sum" + labels + " " + number(histogram->sum_.load(std::memory_order_relaxed)) + "\n";
      out += name + "_count" + labels + " " + std::to_string(below) + "\n";
    }
  }
  Samples samples;
  for (const auto& source : sources_) source(samples);
  for (const auto& [name, family] : samples.families_) {
    head(out, name, family.help, family.type.c_str());
    for (const auto& [line, value] : family.lines) out += line + " " + number(value) + "\n";
  }
  return out;
}

}  // namespace qw::base
