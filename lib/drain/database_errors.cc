#include "drain/database_errors.h"

namespace outfall {

namespace {

DatabaseErrorKind kind_of(const StoreError& error, bool connecting) {
  switch (error.kind()) {
    case StoreErrorKind::unavailable:
      return connecting ? DatabaseErrorKind::connect : DatabaseErrorKind::connection_lost;
    case StoreErrorKind::read_only:
      return DatabaseErrorKind::read_only;
    case StoreErrorKind::timeout:
      return DatabaseErrorKind::timeout;
    case StoreErrorKind::conflict:
      return DatabaseErrorKind::conflict;
    case StoreErrorKind::denied:
      return DatabaseErrorKind::permission;
    case StoreErrorKind::schema:
      return DatabaseErrorKind::schema;
    case StoreErrorKind::refused:
    case StoreErrorKind::defect:
      break;
  }
  return DatabaseErrorKind::other;
}

}  // namespace

void count_database_error(Metrics& metrics, const StoreError& error, bool connecting) {
  metrics.database_errors(kind_of(error, connecting)).Increment();
}

}  // namespace outfall
