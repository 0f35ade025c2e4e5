// Office Open XML (ISO/IEC 29500): a ZIP archive of XML parts. Custom properties are a part of their own, which the
// list of content types and the package's relationships name.
#include <zip.h>

#include <algorithm>
#include <map>
#include <memory>
#include <pugixml.hpp>
#include <sstream>

#include "governance/label/internal/carrier.h"
#include "governance/label/label_file.h"

namespace qw::governance::internal {
namespace {

constexpr const char* kTypesPart = "[Content_Types].xml";
constexpr const char* kRelationsPart = "_rels/.rels";
constexpr std::string_view kRelation =
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships/custom-properties";
constexpr std::string_view kStrictRelation = "http://purl.oclc.org/ooxml/officeDocument/relationships/customProperties";
// Of the part that is the document; the strict form has another beginning.
constexpr std::string_view kDocumentRelation = "/relationships/officeDocument";
constexpr const char* kPropertiesType = "application/vnd.openxmlformats-officedocument.custom-properties+xml";
constexpr const char* kPropertiesPart = "docProps/custom.xml";
constexpr const char* kPropertiesFormat = "{D5CDD505-2E9C-101B-9397-08002B2CF9AE}";
constexpr const char* kNoProperties =
    "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n"
    "<Properties xmlns=\"http://schemas.openxmlformats.org/officeDocument/2006/custom-properties\" "
    "xmlns:vt=\"http://schemas.openxmlformats.org/officeDocument/2006/docPropsVTypes\"/>";
constexpr int kFirstProperty = 2;  // 0 and 1 mean something else
constexpr unsigned kKeepAll = pugi::parse_full | pugi::parse_ws_pcdata;

std::string_view local_name(const char* name) {
  const std::string_view all(name);
  return all.substr(all.find(':') + 1);  // npos + 1 is 0
}

// The prefix of an element's name, with its colon.
std::string prefix_of(pugi::xml_node node) {
  const std::string_view all(node.name());
  return std::string(all.substr(0, all.find(':') + 1));
}

struct Discard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
  void operator()(zip_file_t* file) const { zip_fclose(file); }
  void operator()(zip_source_t* source) const { zip_source_free(source); }
};

std::string said(zip_error_t& error) {
  std::string out = zip_error_strerror(&error);
  zip_error_fini(&error);
  return out;
}

class Archive {
 public:
  // A copy of the file, which may be changed.
  static Result<Archive> open(std::string_view file) {
    Archive out;
    zip_error_t error;
    zip_error_init(&error);
    out.source_.reset(zip_source_buffer_create(file.data(), file.size(), 0, &error));
    if (out.source_ == nullptr) return fail(ErrorKind::kFailed, "ZIP: " + said(error));
    zip_source_keep(out.source_.get());  // the archive takes one
    out.archive_.reset(zip_open_from_source(out.source_.get(), ZIP_CHECKCONS, &error));
    if (out.archive_ == nullptr) {
      zip_source_free(out.source_.get());
      return fail(ErrorKind::kBadInput, "this is no ZIP archive: " + said(error));
    }
    zip_error_fini(&error);
    QW_TRY(out.check_names());
    return out;
  }

  bool has(const std::string& part) const { return zip_name_locate(archive_.get(), part.c_str(), 0) >= 0; }

  Result<std::string> read(const std::string& part) const {
    zip_stat_t known{};
    if (zip_stat(archive_.get(), part.c_str(), 0, &known) != 0 || (known.valid & ZIP_STAT_SIZE) == 0)
      return fail(ErrorKind::kBadInput, part + " is missing");
    if (known.size > kMostLabelledBytes) return fail(ErrorKind::kBadInput, part + " is too long");
    const std::unique_ptr<zip_file_t, Discard> opened(zip_fopen(archive_.get(), part.c_str(), 0));
    std::string out(known.size, '\0');
    if (opened == nullptr || zip_fread(opened.get(), out.data(), out.size()) != static_cast<zip_int64_t>(out.size()))
      return fail(ErrorKind::kBadInput, part + " cannot be unpacked");
    return out;
  }

  Status put(const std::string& part, std::string text) {
    parts_.push_back(std::make_unique<std::string>(std::move(text)));  // read when the archive is written
    zip_source_t* source = zip_source_buffer(archive_.get(), parts_.back()->data(), parts_.back()->size(), 0);
    if (source == nullptr) return fail(ErrorKind::kFailed, "ZIP: no memory");
    const zip_int64_t index = zip_file_add(archive_.get(), part.c_str(), source, ZIP_FL_OVERWRITE | ZIP_FL_ENC_UTF_8);
    if (index >= 0 && zip_file_set_dostime(archive_.get(), static_cast<zip_uint64_t>(index), 0, kNoDate, 0) == 0)
      return {};
    if (index < 0) zip_source_free(source);
    return fail(ErrorKind::kFailed, std::string("ZIP: ") + zip_strerror(archive_.get()));
  }

  // The archive as it is now; nothing can be done with this afterwards.
  Result<std::string> written() {
    if (zip_close(archive_.get()) != 0)
      return fail(ErrorKind::kFailed, std::string("ZIP: ") + zip_strerror(archive_.get()));
    (void)archive_.release();
    zip_stat_t known{};
    zip_source_t* source = source_.get();
    if (zip_source_stat(source, &known) != 0 || zip_source_open(source) != 0)
      return fail(ErrorKind::kFailed, "ZIP: the archive cannot be read back");
    std::string out(known.size, '\0');
    const bool whole = zip_source_read(source, out.data(), out.size()) == static_cast<zip_int64_t>(out.size());
    zip_source_close(source);
    if (!whole) return fail(ErrorKind::kFailed, "ZIP: the archive cannot be read back");
    return out;
  }

 private:
  static constexpr zip_uint16_t kNoDate = 0x21;  // 1 January 1980: the same file gets the same label every day
  static constexpr zip_int64_t kMostParts = 100'000;

  // What stands twice in an archive, readers may take either of.
  Status check_names() const {
    const zip_int64_t count = zip_get_num_entries(archive_.get(), 0);
    if (count > kMostParts) return fail(ErrorKind::kBadInput, "the archive has too many parts");
    std::map<std::string, int> names;
    for (zip_int64_t i = 0; i < count; ++i) {
      const char* name = zip_get_name(archive_.get(), static_cast<zip_uint64_t>(i), 0);
      if (name != nullptr && ++names[name] > 1)
        return fail(ErrorKind::kBadInput, "the archive has two parts named " + std::string(name));
    }
    return {};
  }

  std::vector<std::unique_ptr<std::string>> parts_;
  std::unique_ptr<zip_source_t, Discard> source_;
  std::unique_ptr<zip_t, Discard> archive_;
};

// A part's XML and its outermost element.
struct Part {
  std::unique_ptr<pugi::xml_document> document = std::make_unique<pugi::xml_document>();
  pugi::xml_node root;
  std::string text() const {
    std::ostringstream out;
    document->save(out, "", pugi::format_raw);
    return out.str();
  }
};

Result<Part> parse(const std::string& name, const std::string& text, std::string_view root) {
  Part out;
  const auto parsed = out.document->load_buffer(text.data(), text.size(), kKeepAll);
  if (!parsed) return fail(ErrorKind::kBadInput, name + ": " + parsed.description());
  out.root = out.document->document_element();
  if (local_name(out.root.name()) != root)
    return fail(ErrorKind::kBadInput, name + ": <" + std::string(root) + "> is missing");
  return out;
}

Result<Part> read_part(const Archive& archive, const std::string& name, std::string_view root) {
  QW_ASSIGN(const std::string text, archive.read(name));
  return parse(name, text, root);
}

// The first part that the relationships name with such a type; "": none.
template <class IsIt>
std::string part_named(const Part& relations, IsIt is_it) {
  for (const pugi::xml_node one : relations.root.children()) {
    if (!is_it(std::string_view(one.attribute("Type").value()))) continue;
    const std::string_view target = one.attribute("Target").value();
    return std::string(target.starts_with('/') ? target.substr(1) : target);
  }
  return "";
}

std::string properties_part(const Part& relations) {
  return part_named(relations, [](std::string_view type) { return type == kRelation || type == kStrictRelation; });
}

// A word processing document's part of text, and its body.
struct TextPart {
  std::string name;
  Part part;
  pugi::xml_node body;
};

Result<TextPart> text_part(const Archive& archive) {
  QW_ASSIGN(const Part relations, read_part(archive, kRelationsPart, "Relationships"));
  TextPart out;
  out.name = part_named(relations, [](std::string_view type) { return type.ends_with(kDocumentRelation); });
  if (out.name.empty()) return fail(ErrorKind::kBadInput, std::string(kRelationsPart) + " names no document");
  QW_ASSIGN(const std::string text, archive.read(out.name));
  auto document = parse(out.name, text, "document");
  if (!document)
    return fail(ErrorKind::kUsage, "visible words in OOXML are for DOCX only: " + document.error().message);
  out.part = std::move(*document);
  for (const pugi::xml_node one : out.part.root.children())
    if (local_name(one.name()) == "body") out.body = one;
  if (!out.body) return fail(ErrorKind::kBadInput, out.name + ": <body> is missing");
  return out;
}

// What is between the tags <t> below a node, with a line break behind each paragraph.
struct Words final : pugi::xml_tree_walker {
  std::string text;
  bool for_each(pugi::xml_node& node) override {
    const std::string_view name = local_name(node.name());
    if (name == "p" && !text.empty()) text += '\n';
    if (name == "t") text += node.text().get();
    return true;
  }
};

std::string words_of(pugi::xml_node node) {
  Words words;
  node.traverse(words);
  return words.text;
}

std::vector<pugi::xml_node> labels_of(const Part& properties) {
  std::vector<pugi::xml_node> out;
  for (const pugi::xml_node one : properties.root.children())
    if (local_name(one.name()) == "property" && std::string_view(one.attribute("name").value()) == "AIGC")
      out.push_back(one);
  return out;
}

pugi::xml_node value_of(pugi::xml_node property) {
  for (const pugi::xml_node one : property.children())
    if (one.type() == pugi::node_element) return one;
  return {};
}

// Names the new part of custom properties where readers look for it.
Status announce(Archive& archive, Part relations) {
  QW_ASSIGN(Part types, read_part(archive, kTypesPart, "Types"));
  auto type = types.root.append_child((prefix_of(types.root) + "Override").c_str());
  type.append_attribute("PartName") = (std::string("/") + kPropertiesPart).c_str();
  type.append_attribute("ContentType") = kPropertiesType;
  QW_TRY(archive.put(kTypesPart, types.text()));

  std::string id = "rIdAIGC";
  const auto taken = [&] {
    return std::any_of(relations.root.begin(), relations.root.end(),
                       [&](const pugi::xml_node& one) { return one.attribute("Id").value() == id; });
  };
  while (taken()) id += '_';
  auto relation = relations.root.append_child((prefix_of(relations.root) + "Relationship").c_str());
  relation.append_attribute("Id") = id.c_str();
  relation.append_attribute("Type") = std::string(kRelation).c_str();
  relation.append_attribute("Target") = kPropertiesPart;
  return archive.put(kRelationsPart, relations.text());
}

}  // namespace

Result<std::string> docx_text(std::string_view file) {
  QW_ASSIGN(const Archive archive, Archive::open(file));
  QW_ASSIGN(const TextPart text, text_part(archive));
  return words_of(text.body);
}

Result<std::string> with_first_paragraph(std::string_view file, const std::string& text) {
  QW_ASSIGN(Archive archive, Archive::open(file));
  QW_ASSIGN(TextPart document, text_part(archive));
  const std::string prefix = prefix_of(document.body);
  for (const pugi::xml_node first : document.body.children()) {
    if (local_name(first.name()) != "p") continue;
    if (words_of(first) == text) return std::string(file);
    break;
  }
  pugi::xml_node words = document.body.prepend_child((prefix + "p").c_str())
                             .append_child((prefix + "r").c_str())
                             .append_child((prefix + "t").c_str());
  words.append_attribute("xml:space") = "preserve";
  words.text() = text.c_str();
  QW_TRY(archive.put(document.name, document.part.text()));
  return archive.written();
}

Result<Carriers> read_ooxml(std::string_view file) {
  QW_ASSIGN(const Archive archive, Archive::open(file));
  QW_ASSIGN(const Part relations, read_part(archive, kRelationsPart, "Relationships"));
  const std::string name = properties_part(relations);
  Carriers out;
  if (name.empty()) return out;
  QW_ASSIGN(const Part properties, read_part(archive, name, "Properties"));
  for (const pugi::xml_node label : labels_of(properties)) out.push_back(carrier_of_text(value_of(label).text().get()));
  return out;
}

Result<std::string> write_ooxml(std::string_view file, const AigcLabel& label) {
  QW_ASSIGN(Archive archive, Archive::open(file));
  QW_ASSIGN(Part relations, read_part(archive, kRelationsPart, "Relationships"));
  std::string name = properties_part(relations);
  Part properties;
  if (name.empty()) {
    name = kPropertiesPart;
    if (archive.has(name)) return fail(ErrorKind::kBadInput, name + " is there, and nothing refers to it");
    QW_ASSIGN(properties, parse(name, kNoProperties, "Properties"));
    QW_TRY(announce(archive, std::move(relations)));
  } else {
    QW_ASSIGN(properties, read_part(archive, name, "Properties"));
  }
  const auto labels = labels_of(properties);
  pugi::xml_node value = labels.empty() ? pugi::xml_node() : value_of(labels[0]);
  if (!value) {
    int number = kFirstProperty;
    for (const pugi::xml_node one : properties.root.children())
      number = std::max(number, one.attribute("pid").as_int() + 1);
    pugi::xml_node property =
        labels.empty() ? properties.root.append_child((prefix_of(properties.root) + "property").c_str()) : labels[0];
    if (labels.empty()) {
      property.append_attribute("fmtid") = kPropertiesFormat;
      property.append_attribute("pid") = number;
      property.append_attribute("name") = "AIGC";
    }
    value = property.append_child("vt:lpwstr");
    value.append_attribute("xmlns:vt") = "http://schemas.openxmlformats.org/officeDocument/2006/docPropsVTypes";
  }
  value.remove_children();
  value.text() = compact_json(label).c_str();
  QW_TRY(archive.put(name, properties.text()));
  return archive.written();
}

}  // namespace qw::governance::internal
