outfall_test(cli_operate_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/sql_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/operate_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/admin_openapi_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/admin_operate_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/admin_operate_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/admin_texts_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_dead_letters_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_entry_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_import_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_job_kill_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_jobs_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_migrate_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_replay_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_status_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_streams_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_sampler_test.cc
  LIBS outfall_store_postgres outfall_admin_client outfall_test_support outfall_json fmt::fmt
  TIMEOUT 600
  SHARDS 2
  LABELS integration postgres)
add_dependencies(cli_operate_test outfall)
target_compile_definitions(cli_operate_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")

# The replay that is killed twice, at the rate of people who are careful: 35 seconds of it.
add_test(NAME replay_at_500 COMMAND cli_operate_test --gtest_filter=CliJobKill.*)
set_tests_properties(replay_at_500 PROPERTIES ENVIRONMENT OUTFALL_TEST_REPLAY_RATE=500
  LABELS "integration;postgres;plain;slow" TIMEOUT 600)
