outfall_test(claim_floor_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/claim_floor_test.cc
  LIBS outfall_store_postgres outfall_core
  LABELS unit)
