outfall_test(security_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/operate_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/security_database_tls_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/security_http.cc
    ${CMAKE_CURRENT_LIST_DIR}/security_injection.cc
    ${CMAKE_CURRENT_LIST_DIR}/security_injection_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/security_roles_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/security_secrets_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/security_settings_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/sql_fixture.cc
  LIBS outfall_store_postgres outfall_admin_client outfall_test_support outfall_json fmt::fmt
  TIMEOUT 600
  LABELS integration postgres)
add_dependencies(security_test outfall)
target_compile_definitions(security_test PRIVATE OUTFALL_BINARY="$<TARGET_FILE:outfall>")

outfall_test(security_rebinding_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/security_rebinding_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_fixture.cc
  LIBS outfall_emitter_webhook outfall_test_emitter
  LABELS integration)
