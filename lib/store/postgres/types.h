#pragma once

#include <postgres_ext.h>

// The types of PostgreSQL that outfall exchanges with it, by the numbers that its catalog gives
// them in every database (pg_type.dat).

namespace outfall::postgres {

inline constexpr Oid kBool = 16, kInt8 = 20, kInt4 = 23, kText = 25, kUuid = 2950,
                     kTimestamptz = 1184;
inline constexpr Oid kBoolArray = 1000, kInt4Array = 1007, kTextArray = 1009, kInt8Array = 1016,
                     kTimestamptzArray = 1185, kUuidArray = 2951;

}  // namespace outfall::postgres
