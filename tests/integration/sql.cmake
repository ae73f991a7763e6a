outfall_test(sql_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/sql_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_docs_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_explain_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_jobs_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_migrator_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_operators_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_plans_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_producers_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_reads_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_receipts_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_replay_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_roles_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_claims_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_sample_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_statistics_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/watched_plans.cc
  LIBS outfall_store_postgres outfall_test_support fmt::fmt
  TIMEOUT 600
  LABELS integration postgres plain)
target_compile_definitions(sql_test PRIVATE
  OUTFALL_SQL_FOLDER="${CMAKE_CURRENT_LIST_DIR}/../../sql/migrations"
  OUTFALL_DOCS_FOLDER="${CMAKE_CURRENT_LIST_DIR}/../../docs")
