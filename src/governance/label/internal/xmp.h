// The XMP packet of an image, as far as labels go.
// Source: ISO 16684-1 (XMP); the namespace is TC260-PG-20259A's.
#pragma once

#include "governance/label/internal/carrier.h"

namespace qw::governance::internal {

// What the packet's labels hold; kBadInput: it is no XMP.
Result<Carriers> read_xmp(std::string_view packet);
// The packet with the label, in place of the one that it has; "": a new one.
Result<std::string> write_xmp(std::string_view packet, const AigcLabel& label);

}  // namespace qw::governance::internal
