#include "store/store_error.h"

namespace outfall {

const char* to_string(StoreErrorKind kind) noexcept {
  switch (kind) {
    case StoreErrorKind::unavailable:
      return "unavailable";
    case StoreErrorKind::read_only:
      return "read_only";
    case StoreErrorKind::timeout:
      return "timeout";
    case StoreErrorKind::conflict:
      return "conflict";
    case StoreErrorKind::denied:
      return "denied";
    case StoreErrorKind::schema:
      return "schema";
    case StoreErrorKind::refused:
      return "refused";
    case StoreErrorKind::defect:
      return "defect";
  }
  return "defect";
}

}  // namespace outfall
