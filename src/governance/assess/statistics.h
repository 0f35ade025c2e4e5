// How sure a share is that was counted in a sample, whether two assessments differ, and whether two people judge alike.
// Sources: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212; C. J. Clopper and E. S. Pearson, Biometrika 26 (1934),
// 404-413; Q. McNemar, Psychometrika 12 (1947), 153-157 (its exact form); J. Cohen, Educ. Psychol. Meas. 20 (1960),
// 37-46.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

namespace qw::governance {

struct Interval {
  double low = 0, high = 1;
};
// 95 % of the share of `hits` among n; 0 <= hits <= n. Of n = 0 all there is.
Interval wilson(std::int64_t hits, std::int64_t n);
// The same, by the binomial distribution itself: never too narrow, also where few of n are hits, or all but few.
Interval clopper_pearson(std::int64_t hits, std::int64_t n);
// Whether Wilson's approximation is not to be used: fewer than five hits, or all but fewer than five.
bool is_extreme(std::int64_t hits, std::int64_t n);

// Of so lopsided a split of the items that changed, by chance; two-sided.
double mcnemar_p(std::int64_t better, std::int64_t worse);

struct Agreement {
  std::int64_t items = 0, same = 0;
  double kappa = 0;  // 1 where both always say one thing
};
// Of what two people said of the same items.
Agreement agreement(std::span<const std::pair<bool, bool>> said);

}  // namespace qw::governance
