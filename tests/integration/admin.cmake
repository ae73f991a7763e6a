add_library(outfall_admin_client STATIC ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc)
target_link_libraries(outfall_admin_client PUBLIC outfall_options CURL::libcurl)
foreach(test admin_server_test admin_limits_test admin_stop_test)
  outfall_test(${test}
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.cc
    LIBS outfall_admin outfall_admin_client outfall_test_support spdlog::spdlog
    LABELS integration)
endforeach()
