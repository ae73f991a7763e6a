if(OUTFALL_CRASH_POINTS)
  outfall_test(crash_points_test
    SOURCES
      ${CMAKE_SOURCE_DIR}/tests/integration/admin_client.cc
      ${CMAKE_SOURCE_DIR}/tests/integration/worker_fixture.cc
      ${CMAKE_CURRENT_LIST_DIR}/crash_points_test.cc
    LIBS outfall_test_support outfall_test_kafka outfall_json CURL::libcurl
    TIMEOUT 900
    SHARDS 5
    LABELS faults postgres no-asan no-tsan)
  add_dependencies(crash_points_test outfall)
  target_compile_definitions(crash_points_test PRIVATE
    OUTFALL_BINARY="$<TARGET_FILE:outfall>"
    OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
endif()
