"""What every service process needs: settings, logs, gRPC server, authentication, errors."""
