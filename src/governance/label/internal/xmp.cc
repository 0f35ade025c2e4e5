#include "governance/label/internal/xmp.h"

#include <memory>
#include <pugixml.hpp>
#include <sstream>

namespace qw::governance::internal {
namespace {

constexpr const char* kAigcSpace = "http://www.tc260.org.cn/ns/AIGC/1.0/";
constexpr std::string_view kRdfSpace = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
constexpr unsigned kKeepAll = pugi::parse_full | pugi::parse_ws_pcdata;
constexpr int kDeepest = 64;
constexpr const char* kEmptyPacket =
    "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n"
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"/>"
    "</x:xmpmeta>\n<?xpacket end=\"w\"?>";

// Name and namespace of "prefix:name"; names without a prefix have that of `xmlns`.
struct Name {
  std::string_view local, space;
};
Name name_of(const char* qualified, pugi::xml_node scope) {
  const std::string_view all(qualified);
  const auto colon = all.find(':');
  const std::string declared = colon == std::string_view::npos ? "xmlns" : "xmlns:" + std::string(all.substr(0, colon));
  for (; scope; scope = scope.parent())
    if (const auto space = scope.attribute(declared.c_str()))
      return {colon == std::string_view::npos ? all : all.substr(colon + 1), space.value()};
  return {all, ""};
}

// Labels of a packet: elements, or attributes of a description, which mean the same.
struct Place {
  pugi::xml_node element;
  pugi::xml_attribute attribute;
  const char* text() const { return attribute ? attribute.value() : element.text().get(); }
};

class Packet {
 public:
  static Result<std::unique_ptr<Packet>> parse(std::string_view text) {
    auto out = std::make_unique<Packet>();
    const auto parsed = out->document.load_buffer(text.data(), text.size(), kKeepAll);
    if (!parsed) return fail(ErrorKind::kBadInput, std::string("XMP: ") + parsed.description());
    QW_TRY(out->look(out->document, 0));
    if (!out->rdf) return fail(ErrorKind::kBadInput, "XMP: there is no rdf:RDF");
    return out;
  }

  pugi::xml_document document;
  pugi::xml_node rdf;
  std::vector<Place> places;

 private:
  Status look(pugi::xml_node node, int depth) {
    if (depth > kDeepest) return fail(ErrorKind::kBadInput, "XMP: elements stand too deep in each other");
    for (const pugi::xml_node child : node.children()) {
      if (child.type() != pugi::node_element) continue;
      const Name name = name_of(child.name(), child);
      if (!rdf && name.local == "RDF" && name.space == kRdfSpace) rdf = child;
      if (name.local == "AIGC" && name.space == kAigcSpace) places.push_back({child, {}});
      for (const pugi::xml_attribute attribute : child.attributes()) {
        const std::string_view full(attribute.name());
        if (full.find(':') == std::string_view::npos || full.starts_with("xmlns:")) continue;
        const Name own = name_of(attribute.name(), child);
        if (own.local == "AIGC" && own.space == kAigcSpace) places.push_back({child, attribute});
      }
      QW_TRY(look(child, depth + 1));
    }
    return {};
  }
};

}  // namespace

Result<Carriers> read_xmp(std::string_view text) {
  QW_ASSIGN(const auto packet, Packet::parse(text));
  Carriers out;
  for (const Place& place : packet->places) out.push_back(carrier_of_text(place.text()));
  return out;
}

Result<std::string> write_xmp(std::string_view text, const AigcLabel& label) {
  QW_ASSIGN(const auto packet, Packet::parse(text.empty() ? kEmptyPacket : text));
  const std::string value = compact_json(label);
  if (packet->places.empty()) {
    const Name rdf = name_of(packet->rdf.name(), packet->rdf);
    const std::string prefix(packet->rdf.name(), std::string_view(packet->rdf.name()).size() - rdf.local.size());
    auto description = packet->rdf.append_child((prefix + "Description").c_str());
    description.append_attribute((prefix + "about").c_str()) = "";
    description.append_attribute("xmlns:TC260") = kAigcSpace;
    description.append_child("TC260:AIGC").text() = value.c_str();
  } else if (Place& place = packet->places[0]; place.attribute) {
    place.attribute = value.c_str();
  } else {
    place.element.remove_children();
    place.element.text() = value.c_str();
  }
  std::ostringstream out;
  packet->document.save(out, "", pugi::format_raw | pugi::format_no_declaration);
  return out.str();
}

}  // namespace qw::governance::internal
