# The release after this one, as an upgrade sees it: the same program with one more migration. Its
# own list of migrations takes the place of the library's.
set(next_migrations "${CMAKE_CURRENT_BINARY_DIR}/next_migrations")
file(GLOB migrations CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/sql/migrations/[0-9]*.sql")
file(REMOVE_RECURSE "${next_migrations}")
file(MAKE_DIRECTORY "${next_migrations}")
foreach(migration IN LISTS migrations)
  configure_file("${migration}" "${next_migrations}" COPYONLY)
endforeach()
list(LENGTH migrations next_version)
math(EXPR next_version "${next_version} + 1")
string(REGEX MATCH "....$" next_number "000${next_version}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/next_migration.sql.in
  "${next_migrations}/${next_number}_next.sql" @ONLY)
file(GLOB next_files "${next_migrations}/*.sql")
set(embed "${CMAKE_SOURCE_DIR}/lib/store/postgres/embed_migrations.cmake")
add_custom_command(
  OUTPUT next_migrations.cc
  COMMAND ${CMAKE_COMMAND} "-DOUTPUT=next_migrations.cc" "-DFOLDER=${next_migrations}" -P "${embed}"
  DEPENDS ${next_files} "${embed}"
  VERBATIM)
add_executable(outfall_next
  "${CMAKE_SOURCE_DIR}/daemon/main.cc"
  "${CMAKE_CURRENT_BINARY_DIR}/next_migrations.cc")
target_link_libraries(outfall_next PRIVATE outfall_parts outfall_commands)

outfall_test(run_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_claims_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_edges_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_faults_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_order_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_payloads_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_signals_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_trouble_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_upgrade_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/worker_fixture.cc
  LIBS outfall_test_support outfall_json CURL::libcurl
  TIMEOUT 900
  SHARDS 2
  LABELS integration postgres)
add_dependencies(run_test outfall outfall_next)
target_compile_definitions(run_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_NEXT_BINARY="$<TARGET_FILE:outfall_next>")
