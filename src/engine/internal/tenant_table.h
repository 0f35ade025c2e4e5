// Who has requests in the engine, how many tokens each got and what share each is due. The stepping thread's own.
//
// A tenant that was idle gets no credit for it: it begins where the least served one stands. Tenants of one group share
// the group's weight by their own weights, those alone that have requests: a group gets no more by having many tenants,
// and what one of them leaves goes to the others of the group first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace qw::engine {

class TenantTable {
 public:
  struct Share {
    std::string tenant;
    double weight = 1;
    std::string group = "";  // "": the tenant stands beside groups, with its own weight
    double group_weight = 1;
  };

  // The slot of the tenant, which has one request more now. The latest weights count.
  std::uint32_t enter(const Share& share) {
    const std::size_t slot = slot_of(share.tenant);
    Tenant& t = tenants_[slot];
    if (t.requests++ == 0) {
      t.served = std::max(t.served, virtual_time_);
      t.group = share.group.empty() ? kNone : group_of(share.group);
      t.weight = 0;
      if (t.group != kNone) ++groups_[t.group].tenants;
    }
    if (t.group != kNone) {
      groups_[t.group].weight = share.group_weight;
      groups_[t.group].active += share.weight - t.weight;
    }
    t.weight = share.weight;
    return static_cast<std::uint32_t>(slot);
  }
  void leave(std::uint32_t slot) {
    Tenant& t = tenants_[slot];
    if (--t.requests > 0 || t.group == kNone) return;
    Group& g = groups_[t.group];
    g.active = --g.tenants == 0 ? 0 : g.active - t.weight;
  }

  std::size_t size() const { return tenants_.size(); }
  double served(std::size_t slot) const { return tenants_[slot].served; }  // tokens / weight
  // What it is due beside all others that have requests. Of one without requests: its own weight.
  double weight(std::size_t slot) const {
    const Tenant& t = tenants_[slot];
    if (t.group == kNone || t.requests == 0) return t.weight;
    const Group& g = groups_[t.group];
    return g.weight * t.weight / g.active;
  }

  void charge(std::size_t slot, std::int64_t tokens) {
    tenants_[slot].served += static_cast<double>(tokens) / weight(slot);
  }
  // After the charges of a step.
  void advance() {
    double least = -1;
    for (const Tenant& t : tenants_)
      if (t.requests > 0 && (least < 0 || t.served < least)) least = t.served;
    virtual_time_ = std::max(virtual_time_, least);
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};
  struct Tenant {
    std::string name;
    double weight = 1, served = 0;
    std::int64_t requests = 0;
    std::size_t group = kNone;
  };
  struct Group {
    std::string name;
    double weight = 1;
    double active = 0;         // weights of its tenants that have requests
    std::int64_t tenants = 0;  // how many those are
  };

  // Slots are used again once nothing is to be remembered of who had them.
  std::size_t slot_of(const std::string& name) {
    const auto known = std::find_if(tenants_.begin(), tenants_.end(), [&](const Tenant& t) { return t.name == name; });
    if (known != tenants_.end()) return static_cast<std::size_t>(known - tenants_.begin());
    auto at = std::find_if(tenants_.begin(), tenants_.end(),
                           [&](const Tenant& t) { return t.requests == 0 && t.served <= virtual_time_; });
    if (at == tenants_.end()) at = tenants_.emplace(tenants_.end());
    *at = {};
    at->name = name;
    return static_cast<std::size_t>(at - tenants_.begin());
  }
  std::size_t group_of(const std::string& name) {
    auto at = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) { return g.name == name; });
    if (at == groups_.end())
      at = std::find_if(groups_.begin(), groups_.end(), [](const Group& g) { return g.tenants == 0; });
    if (at == groups_.end()) at = groups_.emplace(groups_.end());
    if (at->tenants == 0) *at = {name};
    return static_cast<std::size_t>(at - groups_.begin());
  }

  std::vector<Tenant> tenants_;
  std::vector<Group> groups_;
  double virtual_time_ = 0;  // what the least served of those with requests had got; never falls
};

}  // namespace qw::engine
