outfall_library(outfall_claim_torture
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_history.cc
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_run.cc
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_schema.cc
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_traffic.cc
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_worker.cc
  PUBLIC outfall_core outfall_store_postgres outfall_test_support)
target_compile_definitions(outfall_claim_torture PRIVATE
  OUTFALL_MIGRATIONS_FOLDER="${CMAKE_SOURCE_DIR}/sql/migrations")

outfall_test(claim_torture_history_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/claim_torture_history_test.cc
  LIBS outfall_claim_torture
  LABELS unit plain)
outfall_test(claim_torture_rules_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_liveness_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_rules_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/claim_torture_scene.cc
  LIBS outfall_claim_torture
  LABELS faults postgres plain)
target_compile_definitions(claim_torture_rules_test PRIVATE
  OUTFALL_CLAIMING_PAGE="${CMAKE_SOURCE_DIR}/docs/internals/claiming.md")
outfall_test(claim_torture_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/claim_torture_test.cc
  LIBS outfall_claim_torture
  LABELS faults postgres plain
  TIMEOUT 600)
set_tests_properties(claim_torture_test PROPERTIES RUN_SERIAL TRUE)
